"""Files that may still be written are looked at again though no event comes: for our Fusion and for a public one."""

import json
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from public_fusion import PublicFusion

from agent import AgentUnderTest
from configfile import write_config
from oracle import differences, parse_export, walk
from standalone import StandaloneFusion
from waiting import until

_SIZE = 8192


class Mapped:
    """A file that is kept open; what is written into its mapping causes no event before the last unmap."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w+b")
        self._file.truncate(_SIZE)
        self._map = mmap.mmap(self._file.fileno(), _SIZE)

    def write(self) -> int:
        """Write into the mapping until the file's mtime changes; returns it."""
        before = self.path.stat().st_mtime_ns

        def change() -> int:
            self._map[:5] = b"mmap!"
            self._map.flush()
            now = self.path.stat().st_mtime_ns
            return now if now != before else 0

        return until(change, within_s=30, what="another mtime")

    def close(self) -> None:
        self._map.close()
        self._file.close()


@pytest.fixture
def fusion(tmp_path: Path, no_process_is_left: None) -> Iterator[StandaloneFusion]:
    fusion = StandaloneFusion(tmp_path / "fusion")
    fusion.write_config("views: [{id: p}]\nsentinel_interval_s: 0.2\n")
    yield fusion
    fusion.end()


class Watched:
    """A tree, an agent that watches it, and a Fusion that asks for looks five times a second."""

    def __init__(self, folder: Path, fusion: StandaloneFusion, start_agent: Callable[..., AgentUnderTest]) -> None:
        self.top = folder / "tree"
        self.top.mkdir()
        self._fusion = fusion
        fusion.start()
        self._reader = fusion.add_key("reader", "p")
        sender = {"endpoint": fusion.url, "credential": fusion.add_key("agent", "p")}
        config = write_config(
            folder / "agent.yaml", sources={"s": ("fs", {"uri": str(self.top)})}, senders={"f": ("fusion", sender)},
            pipes={"p": ("s", "f")},
        )  # fmt: skip
        start_agent(config=config).wait_ready()

    def ask(self, path: str) -> str:
        answer = self._fusion.request(self._reader, f"views/p/{path}")
        assert answer.status_code == 200, answer.text
        return answer.text

    def suspects(self) -> list[str]:
        return [each["path"] for each in json.loads(self.ask("suspect-list"))]

    def mtime_ns(self, path: str) -> int:
        return int(json.loads(self.ask(f"metadata?path={path}"))["mtime_ns"])

    def differences(self) -> list[str]:
        lines = self.ask("export?sync=30").encode().splitlines()
        return differences(walk(bytes(self.top)), parse_export(lines))


@pytest.fixture
def watched(tmp_path: Path, fusion: StandaloneFusion, start_agent: Callable[..., AgentUnderTest]) -> Watched:
    return Watched(tmp_path, fusion, start_agent)


def test_what_is_written_without_an_event_is_seen_by_looks_until_the_file_is_closed(watched: Watched) -> None:
    mapped = Mapped(watched.top / "hot")
    until(lambda: watched.suspects() == ["/hot"], within_s=30, what="the suspect")
    for _ in range(3):
        mtime_ns = mapped.write()
        until(lambda mtime_ns=mtime_ns: watched.mtime_ns("/hot") == mtime_ns, within_s=30, what="the look")
        assert watched.suspects() == ["/hot"]
    mapped.close()
    until(lambda: watched.suspects() == [], within_s=30, what="the word that it is closed")
    assert not watched.differences()


@pytest.mark.chaos
def test_a_file_that_stays_open_and_unchanged_for_half_a_minute_is_no_suspect_any_more(watched: Watched) -> None:
    still, busy = Mapped(watched.top / "still"), Mapped(watched.top / "busy")
    until(lambda: sorted(watched.suspects()) == ["/busy", "/still"], within_s=30, what="the suspects")
    until(lambda: busy.write() and watched.suspects() == ["/busy"], within_s=90, what="the end of the suspicion")
    for mapped in (still, busy):
        mapped.close()
    until(lambda: watched.suspects() == [], within_s=30, what="the word that both are closed")


@pytest.fixture
def public(tmp_path: Path) -> Iterator[PublicFusion]:
    fusion = PublicFusion(tmp_path / "public", same_ids=True, sentinel_interval_s=0.2).start()
    yield fusion
    fusion.stop()


def test_a_public_fusion_is_asked_for_its_tasks_and_gets_what_is_found(
    tmp_path: Path, public: PublicFusion, start_agent: Callable[..., AgentUnderTest]
) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    config = write_config(
        tmp_path / "agent.yaml",
        sources={"s": ("fs", {"uri": str(top)})},
        senders={"f": ("fusion", {"endpoint": public.endpoint, "credential": public.push_key})},
        pipes={"p": ("s", "f")},
    )
    start_agent(config=config).wait_ready()

    def get_hot() -> dict[str, Any]:
        return (public.nodes() or {}).get("/hot", {})

    mapped = Mapped(top / "hot")
    until(lambda: get_hot().get("integrity_suspect"), within_s=30, what="the suspect")
    for _ in range(3):
        seconds = mapped.write() / 1e9
        until(lambda seconds=seconds: abs(get_hot()["modified_time"] - seconds) < 1e-5, within_s=30, what="the look")
    mapped.close()
    until(lambda: not get_hot()["integrity_suspect"], within_s=30, what="the word that it is closed")
