import base64
import http.client
import json
import os
import socket
import stat
import threading
import time
from urllib.parse import urlsplit

import apsw
import msgspec
import pytest
import requests

from fustor_event_model import DeleteEvent, FsPath, MessageSource
from fustor_fusion import view_routes
from waiting import until

DIR = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777


@pytest.fixture
def agent(fusion, make):
    agent = make.agent(fusion)
    agent.snapshot(
        make.update(5, b"/", [make.row(b"", mode=DIR, inode=1), make.row(b"d", mode=DIR, inode=2), make.row(b"a.txt"),
                              make.row(b"l", mode=LINK, target=b"a.txt"), make.row(b"p", mode=stat.S_IFIFO | 0o600)]),
        make.update(5, b"/d/", [make.row(b"B.TXT", size=6), make.row(b"caf\xe9", size=7)]),
        make.listed(5, b"/d"), make.listed(5, b"/"))
    agent.beat()
    return agent


def test_a_node_looks_as_in_the_public_protocol(fusion, agent):
    assert fusion.get("p/tree", path="/a.txt").json() == {
        "name": "a.txt", "content_type": "file", "path": "/a.txt", "size": 5, "modified_time": 1.5,
        "created_time": 2.5, "integrity_suspect": False, "job_id": None, "job_pending": False}


def test_a_tree_holds_everything_below(fusion, agent):
    tree = fusion.get("p/tree").json()
    assert (tree["path"], tree["content_type"], tree["job_pending"]) == ("/", "directory", False)
    assert [(child["name"], child["content_type"]) for child in tree["children"]] == [
        ("a.txt", "file"), ("d", "directory"), ("l", "symlink"), ("p", "file")]
    assert [child["path"] for child in tree["children"][1]["children"]] == ["/d/B.TXT", "/d/caf\ufffd"]
    assert "job_id" not in tree["children"][1]


def test_depth_and_detail_can_be_limited(fusion, agent):
    assert "children" not in fusion.get("p/tree", max_depth=0).json()
    below = fusion.get("p/tree", max_depth=1).json()["children"][1]
    assert (below["name"], "children" in below) == ("d", False)
    assert fusion.get("p/tree", recursive="false").json()["children"] == []
    assert fusion.get("p/tree", path="/d", only_path="true", max_depth=0).json() == {
        "name": "d", "content_type": "directory", "path": "/d", "job_id": None, "job_pending": False}


def test_a_path_can_be_given_as_bytes(fusion, agent):
    node = fusion.get("p/tree", raw="L2QvY2Fm6Q").json()
    assert (node["size"], node["raw"]) == (7, "L2QvY2Fm6Q==")


def test_what_is_not_there_is_404(fusion, agent):
    for path in ("/nope", "/a.txt/below", "/d/caf\ufffd"):
        response = fusion.get("p/tree", path=path)
        assert (response.status_code, "detail" in response.json()) == (404, True)
    assert fusion.get("other/tree").status_code == 404
    assert fusion.get("p/unknown").status_code == 404
    assert fusion.get("p/jobs/nope").status_code == 404


@pytest.mark.parametrize("query", [
    {"path": "relative"}, {"path": "/a\0"}, {"raw": "***"}, {"max_depth": "-1"}, {"max_depth": "x"}, {"max_depth": "²"},
    {"limit": "0"}, {"limit": "x"}, {"after_raw": "***"}, {"recursive": "maybe"},
    {"sync": "x"}, {"sync": "0"}, {"sync": "nan"}, {"sync": "1e9"}])
def test_a_bad_value_is_422(fusion, query):
    response = fusion.get("p/tree", **query)
    assert (response.status_code, "detail" in response.json()) == (422, True)


def test_search_finds_files_by_glob_or_by_a_part_of_the_name(fusion, agent):
    def find(pattern: str) -> list[str]:
        return [node["path"] for node in fusion.get("p/search", pattern=pattern).json()]

    assert find("*.txt") == ["/a.txt"]
    assert find(".txt") == ["/a.txt", "/d/B.TXT"]
    assert find("/d/*") == ["/d/B.TXT", "/d/caf\ufffd"]
    assert find("d") == []
    assert len(find("")) == 5
    assert fusion.get("p/search").status_code == 422


def test_stats_count_what_is_there(fusion, agent):
    stats = fusion.get("p/stats").json()
    assert (stats["item_count"], stats["total_files"], stats["total_directories"], stats["total_size"]) == (
        7, 5, 2, 28)
    assert (stats["files"], stats["directories"], stats["bytes"], stats["newest_index"]) == (5, 1, 28, 5)
    assert (stats["current"], stats["not_current_because"], stats["damage"]) == (True, None, None)
    assert fusion.server.get_totals() == {"p": {"files": 5, "directories": 1, "bytes": 28, "rows_applied": 7}}


def find(fusion, pattern: str, **query: object) -> list[str]:
    return [node["path"] for node in fusion.get("p/search", pattern=pattern, **query).json()]


def test_two_stars_between_slashes_stand_for_any_depth(fusion, agent, make):
    agent.push(make.update(9, b"/x/y/z/", [make.row(b"deep.txt"), make.row(b"deep.bin")]),
               make.update(9, b"/x/", [make.row(b"flat.txt")]))
    assert find(fusion, "/x/**/*.txt") == find(fusion, "x/**/*.txt") == ["/x/flat.txt", "/x/y/z/deep.txt"]
    assert find(fusion, "/x/*/**") == ["/x/y/z/deep.bin", "/x/y/z/deep.txt"]
    assert find(fusion, "**/y/**/deep.*") == ["/x/y/z/deep.bin", "/x/y/z/deep.txt"]
    assert find(fusion, "/d/**/caf?") == find(fusion, "/d/**/caf\ufffd") == ["/d/caf\ufffd"]
    assert find(fusion, "/nowhere/**") == find(fusion, "/a.txt/**") == find(fusion, "/**/Y/**") == []
    assert len(find(fusion, "/**")) == 8
    assert find(fusion, "/x/*.txt") == ["/x/flat.txt", "/x/y/z/deep.txt"]  # without `**`, as the public protocol has it


def test_a_search_can_be_limited(fusion, agent):
    assert find(fusion, "", limit=2) == ["/a.txt", "/d/B.TXT"]
    assert len(find(fusion, "", limit=5)) == len(find(fusion, "", limit=6)) == 5


def test_metadata_is_one_line_of_the_export(fusion, agent):
    for text in fusion.get("p/export").text.splitlines():
        line = json.loads(text)
        place = {"raw": line["raw"].rstrip("=")} if "raw" in line else {"path": line["path"]}
        assert fusion.get("p/metadata", **place).json() == line
    root = fusion.get("p/metadata").json()
    assert (root["path"], root["type"], root["inode"]) == ("/", "directory", 1)


def test_there_is_no_metadata_of_what_is_only_a_way(fusion, make):
    make.agent(fusion).push(make.update(5, b"/a/", [make.row(b"f")]))
    assert [fusion.get("p/metadata", path=path).status_code for path in ("/a/f", "/a", "/", "/b", "/a/f/g")] == [
        200, 404, 404, 404, 404]


def test_what_is_being_written_is_in_the_suspect_list_until_it_is_closed(fusion, agent, make):
    assert fusion.get("p/suspect-list").json() == []
    open_ = [msgspec.structs.replace(make.row(name), is_atomic_write=False) for name in (b"z", b"caf\xe9", b"y")]
    agent.push(make.update(9, b"/d/e/", open_), make.update(9, b"/", open_[:1]))
    suspects = fusion.get("p/suspect-list").json()
    assert [(each["path"], each["suspect_until"]) for each in suspects] == [
        ("/d/e/caf\ufffd", None), ("/d/e/y", None), ("/d/e/z", None), ("/z", None)]
    assert ["raw" in each for each in suspects] == [True, False, False, False]
    agent.push(make.update(10, b"/d/e/", [make.row(b"y"), make.row(b"z")]))
    assert [each["path"] for each in fusion.get("p/suspect-list").json()] == ["/d/e/caf\ufffd", "/z"]
    assert fusion.get("p/stats").json()["suspect_file_count"] == 2


def test_a_directory_can_be_read_page_by_page(fusion, agent, make):
    names = [b"%02d" % n for n in range(10)] + [b"caf\xe9", b"caf\xea"]
    agent.push(make.update(9, b"/big/", [make.row(name) for name in names]),
               make.update(9, b"/big/05x/", [make.row(b"f")]))
    whole = fusion.get("p/tree", path="/big").json()["children"]
    for limit in (1, 2, 5, 12, 13, 14):
        pages, question = [], {"path": "/big", "limit": limit}
        while True:
            page = fusion.get("p/tree", **question).json()
            pages.append(page["children"])
            if page["next"] is None:
                break
            question |= {"after_raw": page["next_raw"]} if "next_raw" in page else {"after": page["next"]}
        assert [child for page in pages for child in page] == whole
        assert {len(page) for page in pages[:-1]} <= {limit}
        assert 0 < len(pages[-1]) <= limit


def test_a_page_of_what_has_no_children_is_empty(fusion, agent, make):
    agent.push(make.update(9, b"/", [make.row(b"empty", mode=DIR, inode=9)]))
    assert fusion.get("p/tree", path="/empty", limit=3).json()["children"] == []
    assert fusion.get("p/tree", path="/empty", limit=3).json()["next"] is None
    assert fusion.get("p/tree", path="/a.txt", limit=3).json()["next"] is None
    assert fusion.get("p/tree", after="zzz").json()["children"] == []
    assert "next" not in fusion.get("p/tree", max_depth=0, limit=1).json()


def test_du_sums_up_what_is_below_a_path(fusion, agent):
    assert fusion.get("p/du").json() == {"path": "/", "files": 5, "directories": 1, "bytes": 28}
    assert fusion.get("p/du", path="/d/").json() == {"path": "/d", "files": 2, "directories": 0, "bytes": 13}
    assert fusion.get("p/du", path="/d/B.TXT").json() == {"path": "/d/B.TXT", "files": 1, "directories": 0, "bytes": 6}
    named = fusion.get("p/du", raw="L2QvY2Fm6Q").json()
    assert (named["bytes"], named["raw"]) == (7, "L2QvY2Fm6Q==")
    assert fusion.get("p/du", path="/nope").status_code == 404
    assert fusion.get("p/du", path="nope").status_code == 422


def test_du_follows_every_change(fusion, agent, make):
    agent.push(make.update(9, b"/d/", [make.row(b"new", size=100), make.row(b"B.TXT", size=1)]))
    assert fusion.get("p/du", path="/d").json() == {"path": "/d", "files": 3, "directories": 0, "bytes": 108}
    agent.push(DeleteEvent(index=10, message_source=MessageSource.REALTIME, event_schema="fs", table="files",
                           rows=[FsPath(b"/d")]))
    assert fusion.get("p/du").json() == {"path": "/", "files": 3, "directories": 0, "bytes": 15}


def test_sums_beyond_what_fits_are_still_answered(fusion, agent, make):
    agent.push(make.update(9, b"/d/", [make.row(b"x%d" % n, size=(1 << 63) - 1) for n in range(3)]))
    for question in ("p/du", "p/stats"):
        assert fusion.get(question).json()["bytes"] == (1 << 63) - 1


def test_an_export_holds_every_name_once_in_order_and_exactly(fusion, agent):
    response = fusion.get("p/export")
    assert response.headers["Content-Type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["path"] for line in lines] == ["/a.txt", "/d", "/d/B.TXT", "/d/caf\ufffd", "/l", "/p"]
    assert lines[0] == {"path": "/a.txt", "type": "file", "size": 5, "mtime_ns": 1_500_000_000,
                        "ctime_ns": 2_500_000_000, "mode": 33188, "uid": 10, "gid": 20, "inode": 7, "nlink": 1,
                        "suspect": False, "blind_spot": False}
    assert lines[3]["raw"] == "L2QvY2Fm6Q=="
    assert (lines[4]["type"], lines[4]["target"]) == ("symlink", "a.txt")
    assert lines[5]["type"] == "other"


def test_an_export_shows_unsigned_inodes(fusion, make):
    agent = make.agent(fusion)
    agent.push(make.update(5, b"/", [make.row(b"a", inode=(1 << 64) - 2)]))
    assert fusion.get("p/export").json()["inode"] == (1 << 64) - 2


def test_an_export_shows_targets_that_are_not_utf8_exactly(fusion, make):
    agent = make.agent(fusion)
    agent.push(make.update(5, b"/", [make.row(b"a", mode=LINK, target=b"caf\xe9"),
                                     make.row(b"b", mode=LINK, target="café".encode())]))
    bad, good = (json.loads(line) for line in fusion.get("p/export").text.splitlines())
    assert (bad["target"], base64.b64decode(bad["target_raw"])) == ("caf\ufffd", b"caf\xe9")
    assert (good["target"], "target_raw" in good) == ("café", False)


def test_a_way_to_a_node_is_in_the_tree_but_not_in_the_export(fusion, make):
    make.agent(fusion).push(make.update(5, b"/a/b/", [make.row(b"f")]))
    assert [json.loads(line)["path"] for line in fusion.get("p/export").text.splitlines()] == ["/a/b/f"]
    assert fusion.get("p/tree", path="/a").json()["children"][0]["children"][0]["path"] == "/a/b/f"


def test_a_tree_deeper_than_any_stack_is_served(fusion, make):
    agent = make.agent(fusion)
    depth = 2000
    agent.push(make.update(5, b"/" + b"d/" * depth, [make.row(b"f")]))
    assert fusion.get("p/tree").text.count('"content_type":"directory"') == depth + 1
    assert len(fusion.get("p/search", pattern="f").json()) == 1
    assert fusion.get("p/export").json()["path"].count("/") == depth + 1
    gone = DeleteEvent(index=6, message_source=MessageSource.REALTIME, event_schema="fs", table="files",
                       rows=[FsPath(b"/d")])
    assert agent.push(gone).status_code == 200
    assert fusion.get("p/tree").json()["children"] == []


def test_a_large_answer_survives_a_reader_that_goes_away(fusion, make):
    agent = make.agent(fusion)
    agent.push(*[make.update(5, b"/", [make.row(b"%06d" % (n + at), size=n) for n in range(1000)])
                 for at in range(0, 20_000, 1000)])
    with fusion.reader.get(fusion.base + "/views/p/export", stream=True) as response:
        next(response.iter_content(100))
    assert len(fusion.get("p/export").text.splitlines()) == 20_000
    assert len(fusion.get("p/tree").json()["children"]) == 20_000
    assert len(fusion.get("p/search", pattern="").json()) == 20_000


def test_a_view_is_not_current_as_long_as_nothing_can_be_stored(fusion, agent, make):
    store = fusion.server._serving.views["p"].store

    def limit_pages(count: int) -> None:
        store.submit(lambda writer, _: writer.db.execute(f"PRAGMA max_page_count={count}") and None).result()

    rows = make.update(6, b"/many/", [make.row(b"%01000d" % number) for number in range(600)])
    limit_pages(1)  # so many as there are
    assert agent.push(rows, seq=9).status_code == 503
    answer = fusion.get("p/stats")
    assert (answer.status_code, answer.headers["X-Fustor-Current"], answer.json()["current"]) == (200, "false", False)
    assert "full" in answer.headers["X-Fustor-Not-Current-Because"]
    limit_pages(1 << 30)
    assert agent.push(rows, seq=9).json()["count"] == 600
    assert fusion.get("p/stats").headers["X-Fustor-Current"] == "true"


@pytest.mark.parametrize("question", ["tree", "search?pattern=", "export", "blind-spots", "stats"])
def test_http_1_0_gets_whole_answers_or_a_reason(fusion, agent, make, question):
    def ask() -> tuple[int, str | None, str]:
        with socket.create_connection(("127.0.0.1", urlsplit(fusion.base).port)) as connection:
            connection.sendall(f"GET /api/v1/views/p/{question} HTTP/1.0\r\nHost: localhost\r\n"
                               "X-API-Key: reader-key\r\n\r\n".encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.getheader("Transfer-Encoding"), response.read().decode()

    status, encoding, text = ask()
    answer = fusion.get(f"p/{question}")
    if question != "stats":  # they hold times
        assert text == answer.text
    assert (status, encoding) == (200, None)
    agent.push(make.update(6, b"/many/", [make.row(b"%01000d" % number) for number in range(600)]))
    status, encoding, text = ask()
    assert (status, encoding) == (505 if question not in ("blind-spots", "stats") else 200, None)


def test_a_reader_who_takes_nothing_does_not_keep_the_log_for_ever(fusion, make, monkeypatch, tmp_path):
    monkeypatch.setattr("fustor_fusion.reading.MAX_LOG_BYTES", 1 << 20)
    monkeypatch.setattr("fustor_fusion.reading.MAX_WAITED_S", 0.0)
    agent, path = make.agent(fusion), tmp_path / "fusion-p.db"

    def push(index: int) -> None:
        for at in range(0, 40_000, 2_000):
            rows = [make.row(b"%0200d" % (at + n), size=index) for n in range(2_000)]
            assert agent.push(make.update(index, b"/", rows)).status_code == 200

    push(5)
    other = apsw.Connection(str(path))
    with fusion.reader.get(fusion.base + "/views/p/export", stream=True) as response:
        push(6)
        assert path.with_name("fusion-p.db-wal").stat().st_size > 1 << 20
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            response.content  # noqa: B018
        other.set_busy_timeout(30_000)
        other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)  # raises BusyError as long as a reader is there
    other.close()
    monkeypatch.undo()
    assert len(fusion.get("p/export").text.splitlines()) == 40_000


def test_a_view_without_an_agent_is_empty_and_says_that_it_is_not_current(fusion):
    response = fusion.get("p/tree")
    assert (response.status_code, response.json()["children"]) == (200, [])
    assert response.headers["X-Fustor-Current"] == "false"
    assert response.headers["X-Fustor-Not-Current-Because"] == "no agent is connected"
    assert fusion.get("p/export").text == ""


@pytest.mark.parametrize(("question", "status"), [
    ("tree?path=/none", 404), ("metadata?path=/none", 404), ("du?path=/none", 404), ("export?path=/none", 404),
    ("jobs/none", 404), ("jobs", 200), ("sessions", 200), ("suspect-list", 200), ("tree?dry_run=1", 200),
    ("changes?since=00-1", 410), ("stats?sync=1", 409)])
def test_every_answer_says_how_current_it_is_refusals_too(fusion, make, question, status):
    answer = fusion.get(f"p/{question}")
    assert (answer.status_code, answer.headers["X-Fustor-Current"]) == (status, "false")
    make.agent(fusion).snapshot()
    answer = fusion.get(f"p/{question.partition('?sync')[0]}")
    assert answer.headers["X-Fustor-Not-Current-Because"] == "agent agent does not see changes as they happen"


def test_stats_say_how_far_behind_a_view_is(fusion, make):
    stats = fusion.get("p/stats").json()
    assert (stats["lag_s"], stats["latency_ms"], stats["leader_silent_s"]) == (None, 0.0, None)
    agent = make.agent(fusion)
    agent.snapshot(make.update(5, b"/", [make.row(b"a")]))
    assert fusion.get("p/stats").json()["lag_s"] is None, "a snapshot is no change"
    agent.push(make.update(time.time_ns() - 90 * 10**9, b"/", [make.row(b"a")]))
    stats = fusion.get("p/stats").json()
    assert 90 <= stats["lag_s"] < 900
    assert stats["latency_ms"] == pytest.approx(1_000 * stats["lag_s"])
    agent.push(make.update(time.time_ns() + 90 * 10**9, b"/", [make.row(b"a")]))
    stats = fusion.get("p/stats").json()
    assert 0 <= stats["lag_s"] < 60, "nothing is seen after it is told"
    assert stats["leader_silent_s"] >= 0


def test_stats_count_blind_spots(fusion, agent, make):
    assert fusion.get("p/stats").json()["blind_spot_count"] == 0
    agent.push(make.update(9, b"/d/", [make.row(b"new"), make.row(b"dir", mode=DIR)], MessageSource.AUDIT),
               DeleteEvent(index=9, message_source=MessageSource.AUDIT, event_schema="fs", table="files",
                           rows=[FsPath(b"/a.txt")]), lane="audit")
    stats = fusion.get("p/stats").json()
    assert (stats["blind_spot_count"], stats["has_blind_spot"]) == (3, True)


def test_no_number_of_slow_questions_keeps_agents_waiting(fusion, agent, make, monkeypatch):
    go_on = threading.Event()

    def search_for_ever(db, pattern, *, limit):
        go_on.wait()
        return iter((b"[]",))

    monkeypatch.setattr(view_routes, "search", search_for_ever)
    answers = []
    asking = [threading.Thread(target=lambda: answers.append(fusion.get("p/search", pattern="").status_code))
              for _ in range(60)]
    try:
        for thread in asking:
            thread.start()
        until(lambda: fusion.server.counters()["requests"] >= 60, within_s=60, what="the questions to be asked")
        other = make.agent(fusion, name="other")
        assert other.push(make.update(9, b"/", [make.row(b"new")])).status_code == 200
        assert other.beat().status_code == 200
        assert fusion.agent.get(f"{fusion.base}/pipe/consistency/sentinel/tasks").status_code == 200
        assert answers == []
    finally:
        go_on.set()
        for thread in asking:
            thread.join()
    assert answers == [200] * 60


def test_sessions_are_listed(fusion, agent):
    listed = fusion.get("p/sessions").json()
    assert listed["count"] == 1
    session = listed["active_sessions"][0]
    assert (session["session_id"], session["agent_id"], session["role"], session["can_realtime"]) == (
        agent.id, "agent", "leader", True)


def test_no_key_reads_nothing(fusion):
    for path in ("tree", "stats", "search?pattern=", "metadata", "suspect-list", "blind-spots", "du", "changes",
                 "export", "sessions", "jobs"):
        response = fusion.reader.get(f"{fusion.base}/views/p/{path}", headers={"X-API-Key": "wrong"})
        assert response.status_code == 401


# -- read your writes -------------------------------------------------------------------------


class Asked(threading.Thread):
    """A request with `sync` that waits in a thread."""

    def __init__(self, fusion, seconds: float) -> None:
        super().__init__()
        self.fusion, self.seconds = fusion, seconds
        self.start()

    def run(self) -> None:
        self.response = self.fusion.get("p/tree", path="/new", sync=self.seconds)

    def finish(self):
        self.join(30)
        return self.response


def test_a_synced_answer_holds_what_the_agent_pushed_before_its_barrier(fusion, agent, make):
    asked = Asked(fusion, 30)
    (command,) = agent.poll()
    assert command["type"] == "sync"
    agent.push(make.update(9, b"/", [make.row(b"new")]))
    assert asked.is_alive()
    agent.answer(command["token"])
    assert asked.finish().json()["path"] == "/new"


def test_a_sync_that_nobody_answered_is_asked_again(fusion, agent):
    asked = Asked(fusion, 30)
    (first,) = agent.poll()
    (second,) = agent.poll()
    assert first == second
    agent.answer(first["token"])
    assert asked.finish().status_code == 404  # and not 504


def test_an_agent_that_cannot_promise_makes_it_409_with_its_reason(fusion, agent):
    asked = Asked(fusion, 30)
    (command,) = agent.poll()
    agent.answer(command["token"], "watches ran out")
    response = asked.finish()
    assert (response.status_code, response.json()["detail"]) == (409, "agent agent: watches ran out")


def test_a_silent_agent_makes_it_504(fusion, agent):
    response = fusion.get("p/tree", sync=0.05)
    assert response.status_code == 504
    assert "agent agent" in response.json()["detail"]


def test_an_agent_that_ends_meanwhile_makes_it_409(fusion, agent):
    asked = Asked(fusion, 30)
    agent.poll()
    fusion.agent.delete(f"{fusion.base}/pipe/session/{agent.id}")
    assert asked.finish().status_code == 409


def test_without_an_agent_a_sync_is_409(fusion):
    response = fusion.get("p/tree", sync=5)
    assert (response.status_code, response.json()["detail"]) == (409, "no agent is connected")


def test_a_public_agent_cannot_sync(fusion):
    fusion.post("session/", {"task_id": "old:p"})
    assert fusion.get("p/tree", sync=5).status_code == 409


def test_every_agent_is_asked(fusion, agent, make):
    other = make.agent(fusion, name="other")
    other.beat()
    asked = Asked(fusion, 30)
    first, second = agent.poll()[0], other.poll()[0]
    agent.answer(first["token"])
    assert asked.is_alive()
    other.answer(second["token"])
    assert asked.finish().status_code == 404


def test_a_sync_waits_for_the_snapshot(fusion, make):
    agent = make.agent(fusion)
    agent.beat()
    response_before = fusion.get("p/stats").json()
    assert response_before["current"] is False
    asked = Asked(fusion, 30)
    (command,) = agent.poll()
    agent.answer(command["token"])
    agent.snapshot(make.update(5, b"/", [make.row(b"new")]))
    assert asked.finish().json()["path"] == "/new"


# -- who may ask --------------------------------------------------------------------------------


def test_a_foreign_host_or_origin_is_refused(fusion):
    url = fusion.base + "/views/p/tree"
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[::1"):
        assert fusion.reader.get(url, headers={"Host": host}).status_code in (400, 403), host
    for host in ("localhost", "localhost:1", "127.0.0.1", "[::1]:8102"):
        assert fusion.reader.get(url, headers={"Host": host}).status_code == 200, host
    session = fusion.base + "/pipe/session/"
    for origin in ("http://evil.example", "null"):
        assert fusion.agent.post(session, json={"task_id": "a"}, headers={"Origin": origin}).status_code == 403
    own = {"Origin": "http://localhost:8102"}
    assert fusion.agent.post(session, json={"task_id": "a"}, headers=own).status_code == 200


def test_the_database_is_closed_to_other_users(fusion, tmp_path):
    assert stat.S_IMODE(os.stat(tmp_path / "fusion-p.db").st_mode) == 0o600


def test_a_database_that_turns_out_to_be_damaged_is_503_and_said(fusion, make):
    agent = make.agent(fusion)
    for number in range(4):
        agent.push(make.update(5, b"/d%d/" % number, [make.row(b"f%d" % each) for each in range(200)]))
    view = fusion.server._serving.views["p"]
    make.damage(view)
    for question in ("export", "tree", "stats", "search?pattern=*", "tree?path=/d1/f3"):
        view.readers.close()  # none of their pages may come from memory
        answer = fusion.get(f"p/{question}")
        assert (answer.status_code, "malformed" in answer.text) == (503, True), question
    assert "damaged" in view.explain()
