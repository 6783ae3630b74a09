"""Draw what bench_watchers.py measured: plot_watchers.py FIGURES.json PLOT.svg, one panel of bars for each figure."""

import html
import json
import sys
from pathlib import Path

_COLUMNS = 2
_WIDTH, _BAR, _GAP, _HEAD = 460, 15, 6, 30
_LABEL, _ROOM = 190, 60
_COLOURS = ("#1f6f54", "#57a884", "#8a8fa3", "#b08d57", "#a65a5a")


def draw(figures: dict[str, dict[str, float | str]]) -> str:
    """Return the figures as SVG."""
    names = list(dict.fromkeys(name for each in figures.values() for name in each))
    height = _HEAD + len(figures) * (_BAR + _GAP) + 2 * _GAP
    rows = -(-len(names) // _COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_COLUMNS * _WIDTH}" height="{rows * height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, name in enumerate(names):
        x, y = number % _COLUMNS * _WIDTH + 8, number // _COLUMNS * height
        parts.append(f'<text x="{x}" y="{y + 20}" font-weight="bold">{html.escape(name)}</text>')
        parts += _draw_bars(x, y + _HEAD, {title: each.get(name, "") for title, each in figures.items()})
    return "\n".join([*parts, "</svg>", ""])


def _draw_bars(x: int, y: int, values: dict[str, float | str]) -> list[str]:
    longest = max((value for value in values.values() if not isinstance(value, str)), default=0) or 1
    parts = []
    for (title, value), colour in zip(values.items(), _COLOURS, strict=False):
        length = 0 if isinstance(value, str) else (_WIDTH - _LABEL - _ROOM - 16) * value / longest
        said = value if isinstance(value, str) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
        parts += [
            f'<text x="{x}" y="{y + _BAR - 4}">{html.escape(title)}</text>',
            f'<rect x="{x + _LABEL}" y="{y}" width="{max(length, 1):.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{x + _LABEL + length + 5:.1f}" y="{y + _BAR - 4}">{html.escape(said)}</text>',
        ]
        y += _BAR + _GAP
    return parts


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text())))
