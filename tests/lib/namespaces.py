"""Namespaces of their own for what a test runs: mounts and process numbers that nobody else sees (man 7 namespaces)."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_AS_ROOT = os.getuid() == 0


def unshare(*options: str) -> list[str]:
    """
    Return the words before a command that shall run in namespaces of its own.

    An ordinary user becomes root in a user namespace; where even that is not permitted, the test is skipped.

    Args:
        options: Of `unshare`, `--mount` or `--pid`.
    """
    return _unshare(*([] if _AS_ROOT else ["--user", "--map-root-user"]), *options)


def unshare_limits() -> list[str]:
    """Return the words before a command that shall have limits of its own, see `limit_inotify`; skips likewise."""
    return _unshare("--user", "--map-root-user")


def wrap_agent(path: Path, words: Sequence[str]) -> Path:
    """Write a program that is `fustor-agent`, started behind these words; its other commands run without them."""
    program = Path(sys.executable).parent / "fustor-agent"
    path.write_text(f'#!/bin/sh\n[ "$1" = start ] && exec {" ".join(words)} {program} "$@"\nexec {program} "$@"\n')
    path.chmod(0o755)
    return path


def limit_inotify(pid: int, **limits: int) -> None:
    """
    Limit what all processes have together that are where a process is: started by `unshare_limits`.

    Args:
        pid: Of the process.
        limits: `watches` or `instances`, of all its users together.
    """
    words = [f"echo {count} > /proc/sys/user/max_inotify_{name}" for name, count in limits.items()]
    inside = ["nsenter", f"--target={pid}", "--user", "--preserve-credentials"]
    subprocess.run([*inside, "sh", "-ec", "; ".join(words)], check=True)


def _unshare(*options: str) -> list[str]:
    words = ["unshare", *options]
    probe = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"namespaces are not permitted to this user: {probe.stderr.strip()}")
    return words


def enter(pid: int) -> list[str]:
    """Return the words before a command that shall run where a process has its mounts."""
    return ["nsenter", f"--target={pid}", *([] if _AS_ROOT else ["--user", "--preserve-credentials"]), "--mount"]
