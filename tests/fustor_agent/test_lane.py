from fustor_agent.lane import LARGE_ROWS, Lane


def test_a_lane_counts_from_one_and_closes_when_its_window_is_full() -> None:
    lane = Lane(window=3)
    found = [(lane.send([b"a"], LARGE_ROWS), lane.is_open) for _ in range(3)]
    assert found == [(1, True), (2, True), (3, False)]
    assert lane.unacknowledged == 3


def test_behind_a_small_batch_nothing_is_sent_until_it_is_acknowledged() -> None:
    lane = Lane(window=3)
    lane.send([b"a"], LARGE_ROWS - 1)
    assert not lane.is_open
    lane.acknowledge(1)
    assert lane.is_open


def test_an_acknowledgement_settles_its_batch_and_all_before_it_in_order() -> None:
    lane = Lane()
    for positions in ([b"a", b"b"], [], [b"c"], [b"d"]):
        lane.send(positions, 1)
    assert lane.acknowledge(3) == [b"a", b"b", b"c"]
    assert lane.acknowledge(3) == []
    assert lane.unacknowledged == 1


def test_one_batch_can_be_taken_back_without_those_around_it() -> None:
    lane = Lane(window=3)
    for position in (b"a", b"b", b"c"):
        lane.send([position], LARGE_ROWS)
    assert lane.take_one(2) == [b"b"]
    assert lane.take_one(2) == []
    assert lane.is_open
    assert lane.acknowledge(3) == [b"a", b"c"]


def test_a_new_epoch_gives_back_everything_under_way_and_counts_anew() -> None:
    lane = Lane()
    for position in (b"a", b"b", b"c"):
        lane.send([position], 1)
    lane.acknowledge(1)
    assert lane.reset() == [b"b", b"c"]
    assert lane.unacknowledged == 0
    assert lane.is_open
    assert lane.send([b"d"], 1) == 1
