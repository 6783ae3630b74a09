"""What happens to one name of a file is seen at its other names, though no event comes there."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import AgentUnderTest
from oracle import differences, walk


class Linked:
    """A tree of files with several names each, and an agent that watches it."""

    def __init__(self, folder: Path, start_agent: Callable[..., AgentUnderTest]) -> None:
        self.top, self.outside = folder / "tree", folder / "outside"
        self.outside.mkdir()
        for directory in "abc":
            (self.top / directory / "sub").mkdir(parents=True)
        for number in range(8):
            (self.top / "a" / "sub" / f"f{number}").write_text("x")
            for directory in "bc":
                os.link(self.top / "a" / "sub" / f"f{number}", self.top / directory / f"f{number}")
        self.agent = start_agent(watch=self.top)
        self.agent.wait_ready()

    def assert_exact(self, what: object = "") -> None:
        """Compare the view, after a sync, with the tree: link counts and ctimes too."""
        found = differences(walk(bytes(self.top)), self.agent.export())
        assert not found, f"{what}\n" + "\n".join(found)


@pytest.fixture
def linked(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Linked:
    return Linked(tmp_path, start_agent)


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def _write_and_remove(tree: Linked) -> None:
    for number in range(8):
        _append(tree.top / "b" / f"f{number}")
        (tree.top / "b" / f"f{number}").unlink()


def _replace(tree: Linked) -> None:
    for number in range(8):
        (tree.top / "new").write_text("new")
        _append(tree.top / "b" / f"f{number}")
        (tree.top / "new").rename(tree.top / "b" / f"f{number}")


def _remove_a_tree(tree: Linked) -> None:
    _append(tree.top / "a" / "sub" / "f3")
    shutil.rmtree(tree.top / "a")


def _move_a_tree_out(tree: Linked) -> None:
    _append(tree.top / "a" / "sub" / "f3")
    (tree.top / "a").rename(tree.outside / "a")


def _remove_one_after_the_other(tree: Linked) -> None:
    for directory in ("b", "a/sub"):
        for number in range(8):
            _append(tree.top / directory / f"f{number}")
            (tree.top / directory / f"f{number}").unlink()


def _put_a_directory_in_its_place(tree: Linked) -> None:
    for number in range(8):
        (tree.top / "b" / f"f{number}").unlink()
        (tree.top / "b" / f"f{number}" / "below").mkdir(parents=True)


@pytest.mark.parametrize("change", [
    _write_and_remove, _replace, _remove_a_tree, _move_a_tree_out, _remove_one_after_the_other,
    _put_a_directory_in_its_place,
])  # fmt: skip
def test_a_name_that_goes_leaves_the_others_exact_after_a_sync(
    linked: Linked, change: Callable[[Linked], None]
) -> None:
    change(linked)
    linked.assert_exact()


def test_random_links_writes_and_removals_leave_every_name_exact(linked: Linked) -> None:
    """Names that are gone before they can have been seen are left out: they tell nothing of the others."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    directories = [linked.top / "a", linked.top / "a" / "sub", linked.top / "b", linked.top / "c"]
    for _ in range(10):
        seen = set(linked.top.rglob("f*"))
        for _ in range(60):
            source, target = rng.choice(list(linked.top.rglob("f*"))), rng.choice(directories) / f"f{rng.randrange(9)}"
            verb = rng.choice(["write", "remove", "link", "link", "rename"])
            if verb == "write":
                _append(source)
            elif verb == "link" and not target.exists():
                os.link(source, target)
            elif verb == "rename" and source in seen and (target in seen or not target.exists()):
                source.rename(target)
                seen -= {source, target}
            elif verb == "remove" and source in seen:
                source.unlink()
                seen.discard(source)
        linked.assert_exact(f"seed {seed}")
