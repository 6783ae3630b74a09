"""An agent of ours and one of the public protocol in one view: neither spoils what the other said."""

import stat
import time

import pytest

from fustor_event_model import MessageSource

DIRECTORY = stat.S_IFDIR | 0o755
SOURCES = [MessageSource.REALTIME, MessageSource.ON_DEMAND]


@pytest.fixture
def public(fusion, make):
    """Open the session of a public agent, a follower; returns what pushes changes that it saw."""
    ours = make.agent(fusion)
    session_id = fusion.post("session/", {"task_id": "public:p"}).json()["session_id"]

    def push(path: str, *, is_directory: bool) -> None:
        row = {"path": path, "size": 5, "modified_time": 1.5, "created_time": 1.5, "is_directory": is_directory}
        event = {"event_type": "update", "event_schema": "fs", "table": "files", "message_source": "realtime",
                 "fields": [], "index": 1, "rows": [row]}
        answer = fusion.post(f"ingest/{session_id}/events", {"events": [event], "source_type": "realtime"})
        assert answer.ok, answer.text

    push.ours = ours
    return push


def list_names(fusion, path: str) -> set[str]:
    return {child["name"] for child in fusion.get("p/tree", path=path).json()["children"]}


def test_a_public_row_of_a_directory_leaves_what_is_in_it(fusion, make, public):
    index = time.time_ns()
    public.ours.push(make.update(index, b"/", [make.row(b"d", mode=DIRECTORY)]),
                     make.update(index, b"/d/", [make.row(b"a"), make.row(b"b")]))
    public("/d", is_directory=True)
    assert list_names(fusion, "/d") == {"a", "b"}


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_of_ours_of_a_directory_leaves_what_a_public_agent_saw_in_it(fusion, make, public, source):
    public("/d", is_directory=True)
    public("/d/a", is_directory=False)
    public.ours.push(make.update(time.time_ns(), b"/", [make.row(b"d", mode=DIRECTORY)], source))
    assert list_names(fusion, "/d") == {"a"}


def test_a_directory_that_is_another_is_known_for_one_over_a_public_row_of_it(fusion, make, public):
    index = time.time_ns()
    public.ours.push(make.update(index, b"/", [make.row(b"d", mode=DIRECTORY, inode=7)]),
                     make.update(index, b"/d/", [make.row(b"a")]))
    public("/d", is_directory=True)
    public.ours.push(make.update(time.time_ns(), b"/", [make.row(b"d", mode=DIRECTORY, inode=8)]))
    assert list_names(fusion, "/d") == set()
