"""On-demand scans as readers follow them: what was found, and whether all was looked at."""

import pytest

from arbitration import gone, row, up
from fustor_event_model import JobDone, MessageSource

SCAN = MessageSource.ON_DEMAND


@pytest.fixture
def ask(fusion):
    """Ask for a scan; returns a function that tells how it is."""

    def ask(path):
        job_id = fusion.get("p/tree", on_demand_scan="true", path=path).json()["job_id"]
        return lambda: fusion.get(f"p/jobs/{job_id}").json()

    return ask


def end(agent, path, *, complete=True):
    (command,) = agent.poll(0)
    done = JobDone(index=90, message_source=SCAN, job_id=command["job_id"], path=path, complete=complete)
    agent.push(done, lane=SCAN.value)


def test_a_scan_counts_what_it_finds_and_ends_with_whether_all_was_looked_at(fusion, make, ask):
    agent = make.agent(fusion)
    look = ask("/")
    assert (look()["status"], look()["rows"], look()["complete"]) == ("PENDING", 0, None)
    agent.push(up(20, b"/", row(b"a"), row(b"b"), source=SCAN), gone(21, b"/c", source=SCAN), lane=SCAN.value)
    agent.push(up(22, b"/", row(b"d")))
    assert (look()["status"], look()["rows"]) == ("PENDING", 3)
    end(agent, b"/")
    assert (look()["status"], look()["rows"], look()["complete"]) == ("COMPLETED", 3, True)
    assert look()["completed_at"] >= look()["created_at"]


def test_what_is_found_counts_for_the_scan_that_was_asked_for_first(fusion, make, ask):
    agent = make.agent(fusion)
    first = ask("/a")
    (command,) = agent.poll(0)
    second = ask("/b")
    agent.push(up(20, b"/a/", row(b"x"), source=SCAN),
               JobDone(index=21, message_source=SCAN, job_id=command["job_id"], path=b"/a"), lane=SCAN.value)
    agent.push(up(30, b"/b/", row(b"x"), row(b"y"), source=SCAN), lane=SCAN.value)
    end(agent, b"/b", complete=False)
    assert [(look()["rows"], look()["complete"]) for look in (first, second)] == [(1, True), (2, False)]


def test_a_scan_whose_agent_ends_before_it_is_over_was_not_complete(fusion, make, ask):
    quick, slow = make.agent(fusion, name="quick"), make.agent(fusion, name="slow")
    look = ask("/")
    end(quick, b"/")
    fusion.agent.delete(f"{fusion.base}/pipe/session/{slow.id}")
    assert (look()["status"], look()["progress"]["completed_pipes"], look()["complete"]) == ("COMPLETED", 2, False)


def test_without_an_agent_no_scan_is_asked_for_and_the_answer_says_why(fusion):
    answer = fusion.get("p/tree", on_demand_scan="true", path="/")
    assert (answer.json()["job_id"], answer.json()["job_pending"]) == (None, False)
    assert answer.headers["X-Fustor-Not-Current-Because"] == "no agent is connected"
    assert fusion.get("p/jobs").json()["jobs"] == []
