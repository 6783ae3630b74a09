import json
import threading

import pytest

from fustor_event_model import DeleteEvent, FsItem, FsPath, MessageSource
from fustor_fusion.changes import KEPT
from fustor_fusion.store import Store

SNAPSHOT = MessageSource.SNAPSHOT


def gone(index: int, *paths: bytes) -> FsItem:
    return DeleteEvent(index=index, message_source=MessageSource.REALTIME, event_schema="fs", table="files",
                       rows=[FsPath(path) for path in paths])


@pytest.fixture
def agent(fusion, make):
    return make.agent(fusion)


def ask(fusion, **query: object) -> dict:
    response = fusion.get("p/changes", **query)
    assert response.status_code == 200, response.text
    return response.json()


def name_changes(page: dict) -> list[tuple[str, str]]:
    return [(change["kind"], change["path"]) for change in page["changes"]]


def test_without_a_token_one_gets_the_present_one(fusion, agent, make):
    agent.push(make.update(5, b"/", [make.row(b"a")]))
    page = ask(fusion)
    assert (page["changes"], page["more"]) == ([], False)
    assert ask(fusion, since=page["token"]) == page


def test_every_answer_has_the_token_to_go_on_with(fusion, agent, make):
    agent.push(make.update(5, b"/", [make.row(b"a")]))
    token = ask(fusion)["token"]
    for question in ("tree", "search?pattern=", "metadata?path=/a", "suspect-list", "du", "stats", "export", "changes"):
        assert fusion.get(f"p/{question}").headers["X-Fustor-Token"] == token


def test_what_changed_is_named_in_order(fusion, agent, make):
    agent.push(make.update(5, b"/", [make.row(b"a"), make.row(b"d", mode=0o40755, inode=2), make.row(b"caf\xe9")]))
    token = ask(fusion)["token"]
    agent.push(make.update(6, b"/", [make.row(b"a", size=6)]), make.update(6, b"/d/", [make.row(b"b")]))
    agent.push(make.update(7, b"/", [make.row(b"a", size=6)]))  # nothing that a reader could see
    agent.push(gone(8, b"/d", b"/caf\xe9"))
    page = ask(fusion, since=token)
    assert name_changes(page) == [("put", "/a"), ("put", "/d/b"), ("gone", "/d"), ("gone", "/caf\ufffd")]
    assert [change.get("raw") for change in page["changes"]] == [None, None, None, "L2NhZuk="]
    assert name_changes(ask(fusion, since=page["token"])) == []


def test_changes_can_be_read_some_at_a_time(fusion, agent, make):
    token = ask(fusion)["token"]
    agent.push(make.update(5, b"/", [make.row(b"%d" % n) for n in range(5)]))
    found, more = [], True
    while more:
        page = ask(fusion, since=token, limit=2)
        assert len(page["changes"]) <= 2
        found += page["changes"]
        token, more = page["token"], page["more"]
    assert [change["path"] for change in found] == ["/0", "/1", "/2", "/3", "/4"]


def test_a_snapshot_of_a_new_directory_is_one_change(fusion, agent, make):
    agent.push(make.update(4, b"/", [make.row(b"d", mode=0o40755, inode=2)]))
    token = ask(fusion)["token"]
    rows = [make.row(b"%04d" % n, inode=n) for n in range(1000)]
    agent.snapshot(make.update(5, b"/d/", rows, SNAPSHOT), make.listed(5, b"/d"))
    assert name_changes(ask(fusion, since=token)) == [("listed", "/d")]
    token = ask(fusion)["token"]
    agent.push(make.update(6, b"/d/", rows, SNAPSHOT), make.listed(6, b"/d"), lane="audit")
    assert name_changes(ask(fusion, since=token)) == []


def test_many_names_that_a_listing_removes_are_one_change(fusion, agent, make):
    rows = [make.row(b"%04d" % n, inode=n) for n in range(1003)]
    agent.snapshot(make.update(5, b"/d/", rows, SNAPSHOT), make.listed(5, b"/d"))
    token = ask(fusion)["token"]
    agent.push(make.update(6, b"/d/", rows[1002:], SNAPSHOT), make.listed(6, b"/d"), lane="audit")
    assert name_changes(ask(fusion, since=token)) == [("listed", "/d")]
    token = ask(fusion)["token"]
    agent.push(make.listed(7, b"/d"), lane="audit")
    assert name_changes(ask(fusion, since=token)) == [("gone", "/d/1002")]


def test_an_export_of_a_directory_tells_what_is_below_it(fusion, agent, make):
    agent.push(make.update(5, b"/d/caf\xe9/", [make.row(b"x")]), make.update(5, b"/", [make.row(b"a")]))
    lines = fusion.get("p/export", path="/d").text.splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["/d/caf\ufffd/x"]
    assert lines == fusion.get("p/export").text.splitlines()[1:]
    for path in ("/a", "/nope"):
        assert fusion.get("p/export", path=path).status_code == 404


def test_a_poll_waits_for_the_next_change_and_no_longer(fusion, agent, make):
    token = ask(fusion)["token"]
    answers: list[dict] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(fusion, since=token, wait=60)))
    waiting.start()
    agent.beat()  # a commit that changes nothing of the view
    agent.push(make.update(5, b"/", [make.row(b"a")]))
    waiting.join(30)
    assert name_changes(answers[0]) == [("put", "/a")]
    assert ask(fusion, since=ask(fusion)["token"], wait=0.01)["changes"] == []


def test_a_stop_ends_a_poll(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path))
    token = ask(fusion)["token"]
    answers: list[int] = []
    asked = threading.Event()

    def poll() -> None:
        with fusion.reader.get(f"{fusion.base}/views/p/changes", params={"since": token, "wait": 60}) as response:
            answers.append(response.status_code)

    (view,) = fusion.server._serving.views.values()
    wait_newer = view.wait_newer

    async def note_and_wait(*arguments, **keywords):
        asked.set()
        await wait_newer(*arguments, **keywords)

    view.wait_newer = note_and_wait
    waiting = threading.Thread(target=poll)
    waiting.start()
    assert asked.wait(30)
    fusion.server.stop()
    waiting.join(30)
    assert answers == [200]
    fusion.stop()


def test_a_token_outlives_a_restart(tmp_path, make):
    fusion = make.fusion(make.config(tmp_path))
    agent = make.agent(fusion)
    agent.push(make.update(5, b"/", [make.row(b"a")]))
    token = ask(fusion)["token"]
    fusion.stop()
    fusion = make.fusion(make.config(tmp_path))
    make.agent(fusion, name="other").push(make.update(6, b"/", [make.row(b"b")]))
    assert name_changes(ask(fusion, since=token)) == [("put", "/b")]
    fusion.stop()


@pytest.mark.parametrize("query", [
    {"since": ""}, {"since": "x"}, {"since": "-1"}, {"since": "aa-1x"}, {"since": "aa-" + "9" * 30}, {"wait": "x"},
    {"wait": "-1"}, {"wait": "nan"}, {"limit": "0"}, {"limit": "x"}])
def test_a_bad_value_is_422(fusion, query):
    response = fusion.get("p/changes", **query)
    assert (response.status_code, "detail" in response.json()) == (422, True)


def test_a_token_of_another_database_or_of_the_future_is_410_and_says_what_to_do(fusion, agent, make):
    agent.push(make.update(5, b"/", [make.row(b"a")]))
    generation, _, seq = ask(fusion)["token"].rpartition("-")
    for token in (f"{'0' * 32}-{seq}", f"{generation}-{int(seq) + 1}"):
        response = fusion.get("p/changes", since=token, wait=60)
        assert response.status_code == 410
        assert "read export, and go on with the token in its header X-Fustor-Token" in response.json()["detail"]
    assert fusion.get("p/changes", since=f"{generation}-0").status_code == 200


def test_only_the_newest_changes_are_kept_and_older_tokens_are_410(fusion, agent, make):
    first = ask(fusion)["token"]
    agent.push(make.update(5, b"/", [make.row(b"a")]))
    second = ask(fusion)["token"]
    for at in range(0, KEPT, 20_000):
        agent.push(make.update(6 + at, b"/", [make.row(b"%d" % n) for n in range(at, at + 20_000)]))
    assert fusion.get("p/changes", since=first).status_code == 410
    page = ask(fusion, since=second, limit=1)
    assert (name_changes(page), page["more"]) == ([("put", "/0")], True)
    assert ask(fusion)["token"].endswith(f"-{KEPT + 1}")


def test_what_was_rolled_back_is_no_change(tmp_path, make):
    store = Store(tmp_path / "view.db")

    def fail(writer, careful):
        writer.arbiter.apply([make.update(5, b"/", [make.row(b"a")])], owner=1)
        raise OSError("on purpose")

    assert isinstance(store.submit(fail).exception(), OSError)
    item = make.update(5, b"/", [make.row(b"b")])
    store.submit(lambda writer, careful: writer.arbiter.apply([item], owner=1)).result()
    assert store.get_newest_change() == 1
    store.close()
