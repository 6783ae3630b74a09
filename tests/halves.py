"""
Run all tests as two runs of pytest at once: most of their time they wait.

What the second run prints is shown when the first has ended. The exit code is 0 if both have passed.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_RELEASED: Final = "test_public_"
"""What runs beside released programs goes with the second half, so that both take about as long."""


def main() -> int:
    """Run both and say how they ended."""
    of_agents = {path for path in Path("tests/e2e").glob("test_*.py") if not path.name.startswith(_RELEASED)}
    others = set(Path("tests").rglob("test_*.py")) - of_agents
    with tempfile.TemporaryFile() as output:
        second = subprocess.Popen(_pytest(others), stdout=output, stderr=subprocess.STDOUT)
        first = subprocess.call(_pytest(of_agents))
        print("\nThe other half:", flush=True)
        codes = (first, second.wait())
        output.seek(0)
        shutil.copyfileobj(output, sys.stdout.buffer)
    sys.stdout.flush()
    return int(codes != (0, 0))


def _pytest(paths: set[Path]) -> list[str]:
    return [sys.executable, "-m", "pytest", *map(str, sorted(paths))]


if __name__ == "__main__":
    sys.exit(main())
