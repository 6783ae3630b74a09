"""What the architecture page says is somewhere is there."""

import re

import pytest

from checkout import ROOT, distributions

PAGE = ROOT / "docs/architecture.md"
TEXT = PAGE.read_text()


def test_every_folder_of_the_map_is_there() -> None:
    map_ = TEXT.partition("## Where is what\n\n```\n")[2].partition("```")[0]
    folders = [name for name in re.findall(r"[\w/-]+/", re.sub(r"<.*", "", map_)) if not name.startswith("/")]
    assert len(folders) > 8
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_every_distribution_is_on_the_map() -> None:
    for distribution in distributions():
        assert f"{distribution.package}/" in TEXT or f"{distribution.folder}/" in TEXT, distribution.name


@pytest.mark.parametrize("folder", re.findall(r"^\| in `([^`]+)`", TEXT, re.MULTILINE))
def test_every_room_that_is_named_is_there(folder: str) -> None:
    body = TEXT.partition(f"| in `{folder}` |")[2].partition("\n\n")[0]
    names = re.findall(r"`([\w/]+(?:\.py|/))`", body)
    assert len(names) > 5
    assert [name for name in names if not (ROOT / folder / name).exists()] == []


def test_every_room_on_the_way_of_a_change_is_there() -> None:
    packages = {distribution.import_name: ROOT / distribution.package for distribution in distributions()}
    rows = TEXT.partition("## The way of one change")[2].partition("\n## ")[0]
    missing = []
    for cell in re.findall(r"^\|.*\| (`.*) \|$", rows, re.MULTILINE):
        package = ""
        for name in re.findall(r"`([\w/.]+)`", cell):
            head, _, rest = name.partition("/")
            package, path = (head, rest) if head in packages else (package, name)
            if not (packages[package] / path).exists():
                missing.append(name)
    assert missing == []
