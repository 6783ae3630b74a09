"""The released public agent 0.8.17 pushes into our Fusion: the view holds the paths and sizes that it reports."""

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from public_agent import PublicAgent
from released import NotInstallable

from fusion import FusionUnderTest
from waiting import until

_WITHIN_S = 60.0
_AUDIT_S = 4.0  # an audit spares what arrived within 3 s before it
_NEVER_S = 86_400.0
_DIRECTORY = -1


class Fed:
    """A tree, a place outside it, our Fusion, and the public agent between them."""

    def __init__(self, agent: PublicAgent, fusion: FusionUnderTest, inside: Path, outside: Path) -> None:
        self.agent = agent
        self.fusion = fusion
        self.inside = inside
        self.outside = outside

    def assert_same(self, what: str = "") -> None:
        """Wait until the view holds what the agent can say of the tree; nobody may be writing."""
        expected = report(self.inside)
        try:
            until(lambda: self.view() == expected, within_s=_WITHIN_S, what="the view")
        except TimeoutError:
            found = self.view()
            missing = sorted(expected.keys() - found.keys())[:10]
            surplus = sorted(found.keys() - expected.keys())[:10]
            both = sorted(expected.keys() & found.keys())
            sizes = [(path, found[path], expected[path]) for path in both if found[path] != expected[path]][:10]
            pytest.fail(
                f"{what}\nmissing {missing}\nonly in the view {surplus}\nsizes (is, should be) {sizes}\n"
                f"{self.agent.log()[-2000:]}"
            )

    def view(self) -> dict[str, int]:
        """Return the sizes of the files and -1 for each directory, by path."""
        found = self.fusion.export(sync_s=None)
        return {
            path.decode(): _DIRECTORY if entry.type == "directory" else entry.size for path, entry in found.items()
        }

    def finish_audit(self) -> None:
        """Wait until an audit that began after this call has ended."""
        done = self.audits()  # one may be under way
        until(lambda: self.audits() >= done + 2, within_s=_WITHIN_S, what="two audits")

    def audits(self) -> int:
        return int(self.fusion.ask("stats")["audit_cycle_count"])


def report(tree: Path) -> dict[str, int]:
    """
    Return what a walk of the public agent reports, by path: sizes of files, -1 for directories.

    It follows symbolic links once: one to a file is that file, one to a directory an empty
    directory, one to nothing is left out. Each byte that is not UTF-8 is a `?`.
    """
    found: dict[str, int] = {}
    for above, directories, files in os.walk(tree):
        for name in directories + files:
            path = os.path.join(above, name)
            try:
                looked = os.stat(path)
            except FileNotFoundError:
                continue
            said = "/" + os.path.relpath(path, tree)
            said = "".join("?" if "\udc80" <= char <= "\udcff" else char for char in said)
            found[said] = _DIRECTORY if stat.S_ISDIR(looked.st_mode) else looked.st_size
    return found


@pytest.fixture
def fusion(tmp_path: Path, no_process_is_left: None) -> Iterator[FusionUnderTest]:
    fusion = FusionUnderTest(tmp_path / "fusion").start()
    yield fusion
    fusion.stop()


@pytest.fixture
def fed(tmp_path: Path, fusion: FusionUnderTest, request: pytest.FixtureRequest) -> Iterator[Fed]:
    inside, outside = tmp_path / "in", tmp_path / "out"
    outside.mkdir()
    for number in range(12):
        below = inside / f"d{number}" / "sub"
        below.mkdir(parents=True)
        for name in range(10):
            (below / f"f{name}").write_text("x" * name)
    (inside / "to a file").symlink_to("d1/sub/f7")
    (inside / "to a directory").symlink_to("d2")
    (inside / "to nothing").symlink_to("nothing")
    os.mkfifo(inside / "fifo")
    with open(os.path.join(bytes(inside), b"caf\xe9"), "wb") as raw:
        raw.write(b"1234")
    agent = PublicAgent(
        tmp_path / "agent", tree=inside, endpoint=fusion.endpoint, key=fusion.agent_key, session_timeout_s=6,
        audit_interval_s=getattr(request, "param", _AUDIT_S),
    )  # fmt: skip
    try:
        agent.start()
    except NotInstallable as err:
        pytest.skip(f"the public agent cannot be installed here: {err}")
    try:
        until(lambda: fusion.ask("stats")["current"], within_s=_WITHIN_S, what="the snapshot and a heartbeat")
        yield Fed(agent, fusion, inside, outside)
    finally:
        agent.stop()


def test_its_snapshot_is_the_tree(fed: Fed) -> None:
    fed.assert_same()
    assert [session["role"] for session in fed.fusion.sessions()] == ["leader"]


@pytest.mark.parametrize("fed", [_NEVER_S], indirect=True)
def test_each_of_its_realtime_changes_arrives_without_an_audit(fed: Fed) -> None:
    sub = fed.inside / "d1" / "sub"
    changes: list[Callable[[], object]] = [
        lambda: (fed.inside / "created").write_text("new"),
        lambda: (sub / "f1").write_text("more and more"),
        lambda: (sub / "f4").unlink(),
        lambda: os.truncate(sub / "f8", 1),
        lambda: (fed.inside / "d5").rename(fed.outside / "moved out"),
        lambda: (fed.inside / "made").mkdir(),
        lambda: (fed.inside / "made").rmdir(),
    ]
    for change in changes:  # one by one, and none that makes two events: of those in one millisecond it may lose one
        change()
        fed.assert_same()
    assert fed.audits() == 0


def test_its_audits_bring_what_realtime_missed_and_remove_nothing_that_is_there(fed: Fed) -> None:
    (fed.inside / "d1").rename(fed.outside / "moved")
    (fed.outside / "moved" / "grown").write_text("outside")
    (fed.outside / "moved").rename(fed.inside / "moved in")
    (fed.inside / "x" / "y" / "z").mkdir(parents=True)
    (fed.inside / "x" / "y" / "z" / "f").write_text("deep")
    (fed.inside / "empty").touch()
    (fed.inside / "d2" / "sub" / "f2").rename(fed.inside / "d2" / "renamed")
    (fed.inside / "d2" / "sub" / "f3").replace(fed.inside / "d2" / "sub" / "f9")
    (fed.inside / "hard link").hardlink_to(fed.inside / "d2" / "sub" / "f5")
    (fed.inside / "soft link").symlink_to("d3/sub/f4")
    (fed.inside / "d4").rename(fed.inside / "d5" / "renamed")
    fed.assert_same("after the changes")
    fed.finish_audit()
    assert fed.view() == report(fed.inside)


def test_files_that_are_born_while_audits_run_stay(fed: Fed) -> None:
    done = fed.audits()
    born = 0
    while fed.audits() < done + 2:
        name = f"d{born % 12}/born{born}"
        (fed.inside / name).write_text("x" * (born % 7 + 1))
        until(lambda name=name: f"/{name}" in fed.view(), within_s=_WITHIN_S, what=name)
        born += 1
    fed.assert_same("after two audits")


def test_what_vanished_while_it_was_down_leaves_with_the_first_audit_and_the_view_is_never_emptied(fed: Fed) -> None:
    fed.assert_same("before the crash")
    fed.agent.kill()
    shutil.rmtree(fed.inside / "d7")
    (fed.inside / "d8" / "sub" / "f1").unlink()
    (fed.inside / "d9").rename(fed.inside / "d8" / "from d9")
    before = fed.view()
    until(lambda: not fed.fusion.sessions(), within_s=_WITHIN_S, what="the session's end")
    assert fed.view() == before
    assert fed.fusion.ask("stats")["current"] is False
    fed.agent.start()
    fed.assert_same("after the restart")


def test_a_killed_fusion_comes_back_with_the_view_and_the_session(fed: Fed) -> None:
    fed.assert_same("before the crash")
    session, before = fed.fusion.sessions()[0]["session_id"], fed.view()
    fed.fusion.kill()
    (fed.inside / "while it was away").write_text("1")
    fed.fusion.start()
    assert before.items() <= fed.view().items()
    fed.assert_same("after it came back")
    assert [one["session_id"] for one in fed.fusion.sessions()] == [session]


@pytest.mark.parametrize("rounds", [1, pytest.param(60, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])])
def test_random_changes_end_as_the_tree_after_an_audit(fed: Fed, rounds: int) -> None:
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    log: list[str] = []
    for _ in range(rounds):
        for _ in range(60):
            log.append(_change(rng, fed))
        fed.finish_audit()
        fed.assert_same(f"seed {seed}\n" + "\n".join(log[-60:]))


def _change(rng: random.Random, fed: Fed) -> str:
    """
    Do something of which an audit can tell the outcome.

    A file is never written in place: of events in one millisecond the agent sends one, and its
    audits skip directories whose own mtime is what it was.
    """
    directories = [Path(path) for path, _, _ in os.walk(fed.inside)]
    files = [path for path in fed.inside.rglob("f*") if path.is_file() and not path.is_symlink()]
    here, fresh = rng.choice(directories), f"f{rng.getrandbits(40):x}"
    verb = rng.choice(["write", "write", "mkdir", "rename", "replace", "unlink", "rmtree", "move"])
    if verb == "write" or not files:
        (here / fresh).write_text("x" * rng.randrange(1, 50))
    elif verb == "mkdir":
        (here / f"d{fresh}" / "sub").mkdir(parents=True)
        (here / f"d{fresh}" / "sub" / fresh).write_text("z")
    elif verb == "rename":
        rng.choice(files).rename(here / fresh)
    elif verb == "replace":
        chosen = rng.choice(files)
        chosen.with_name(fresh).write_text("r" * rng.randrange(1, 50))
        chosen.with_name(fresh).replace(chosen)
    elif verb == "unlink":
        rng.choice(files).unlink()
    elif verb == "rmtree" and here != fed.inside:
        shutil.rmtree(here)
    elif verb == "move" and here != fed.inside:
        target = rng.choice([each for each in directories if not each.is_relative_to(here)])
        here.rename(target / f"d{fresh}")
    return f"{verb} {here.relative_to(fed.inside)} {fresh}"
