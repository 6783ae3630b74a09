"""No link inside the repository leads nowhere."""

import re
from pathlib import Path

import pytest

from checkout import ROOT, files

PAGES = [path for path in files(untracked=True) if path.suffix == ".md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def slug(heading: str) -> str:
    """Make an anchor of a heading, as GitHub does."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def find_dead_links(page: Path, root: Path) -> list[str]:
    """Return the relative links of a page whose file or heading is not there."""
    dead = []
    for link in LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "", (root / page).read_text(), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (root / page).parent / name if name else root / page
        if not target.exists():
            dead.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            if anchor not in map(slug, headings):
                dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert find_dead_links(page, ROOT) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One & two\n[x](b.md) [y](#one--two) [z](#three) [w](a.md#one--two) <http://x>\n")
    assert find_dead_links(Path("a.md"), tmp_path) == ["b.md", "#three"]


def test_the_readme_leads_to_every_page() -> None:
    linked = {Path(link) for link in LINK.findall((ROOT / "README.md").read_text())}
    assert {page for page in PAGES if page.parent == Path("docs")} <= linked


def test_the_picture_is_small() -> None:
    picture = (ROOT / "docs/images/console.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
