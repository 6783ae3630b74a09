"""The public SDK's client and the public benchmark 0.8.17, each in an environment of its own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from released import install, pin

TIMEOUT_S: Final = 120.0


def run_sdk(script: str, *arguments: str) -> Any:
    """
    Run a program that uses the SDK.

    Args:
        script: Python; may import `fustor_fusion_sdk`, prints one JSON value.
        arguments: Its `sys.argv[1:]`.

    Returns:
        What it printed.

    Raises:
        NotInstallable: The registry does not give it.
    """
    python = install("public-sdk", pin("fustor-fusion-sdk", "fustor-core")) / "python"
    return json.loads(_run([str(python), "-c", script, *arguments]))


def run_benchmark_query(
    home: Path, *, tree: Path, endpoint: str, key: str, view: str, requests: int
) -> tuple[str, dict[str, Any]]:
    """
    Run the benchmark's query mode against a Fusion that is there.

    Args:
        home: Where it writes its report.
        tree: The directory that the view shows.
        endpoint: Of the Fusion.
        key: That may read there.
        view: The view.
        requests: How many it makes of each kind.

    Returns:
        What it printed, and its report.

    Raises:
        NotInstallable: The registry does not give it.
    """
    program = install("public-benchmark", pin("fustor-benchmark")) / "fustor-benchmark"
    home.mkdir(parents=True, exist_ok=True)
    options = {
        "--fusion-api": endpoint, "--api-key": key, "--view-id": view, "--num-requests": requests,
        "--concurrency": 2, "--integrity-interval": 0.1,
    }  # fmt: skip
    words = [str(word) for option in options.items() for word in option]
    said = _run([str(program), "query", str(tree), *words], cwd=home)
    report = json.loads((home / "fustor-benchmark-run" / "results" / "query-find.json").read_text())
    assert isinstance(report, dict)
    return said, report


def _run(command: list[str], cwd: Path | None = None) -> str:
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(cwd or "/")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
