"""Nothing that is tracked names a machine or a place where packages come from."""

import re
from pathlib import Path

import pytest

from checkout import ROOT, files

# Put together here so that this file does not hold what it looks for.
HOSTS = ("py" "pi.org", "python" "hosted", "test." "pypi", "arti" "factory", "dev" "pi.", "/sim" "ple/", "/sim" "ple ")
OPTIONS = ("--index" "-url", "--extra-index" "-url", "--find" "-links", "--trusted" "-host")
MACHINE_PATH = re.compile(r"(?<![\w.~$}*-])/(?:work|root|opt|Users|home)/[\w.]")


def occurrences(path: Path, pattern: re.Pattern[str]) -> list[str]:
    text = (ROOT / path).read_bytes().decode(errors="replace")
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("words", [HOSTS, OPTIONS], ids=["hosts", "options"])
def test_no_tracked_file_names_a_registry(words: tuple[str, ...]) -> None:
    pattern = re.compile("|".join(map(re.escape, words)))
    assert [line for path in files() for line in occurrences(path, pattern)] == []


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    own = re.compile(f"{MACHINE_PATH.pattern}|{re.escape(str(ROOT))}(?![\\w-])")
    this = Path(__file__).relative_to(ROOT)
    assert [line for path in files() if path != this for line in occurrences(path, own)] == []


@pytest.mark.parametrize("text", ["cd /{}/x", '"/{}/me/data"', "(/{}/.cache)", "=/{}/python"])
@pytest.mark.parametrize("top", ["work", "home", "root", "opt"])
def test_a_path_of_one_machine_is_recognised(text: str, top: str) -> None:
    assert MACHINE_PATH.search(text.format(top))


@pytest.mark.parametrize("text", ["~/{}/x", "$HOME/{}/x", "a/{}/b", "/data/{}", "/{}ers/x"])
@pytest.mark.parametrize("top", ["work", "home", "root", "opt"])
def test_other_paths_are_not(text: str, top: str) -> None:
    assert not MACHINE_PATH.search(text.format(top))
