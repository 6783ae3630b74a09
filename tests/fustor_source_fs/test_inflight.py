"""What was sent and not acknowledged, by position."""

from fustor_source_fs.inflight import Inflight, Sent
from fustor_source_fs.watches import Tree


def test_a_position_is_settled_once():
    node = Tree().root
    inflight = Inflight(lambda: 5.0)
    position = inflight.add(node, [b"a", b"b"])
    assert len(inflight) == 1
    assert inflight.take(position) == Sent(node, (b"a", b"b"), 5.0)
    assert inflight.take(position) is None
    assert len(inflight) == 0


def test_positions_are_never_given_twice():
    inflight = Inflight(lambda: 0.0)
    positions = [inflight.add(None) for _ in range(1000)]
    for position in positions[:500]:
        inflight.take(position)
    positions += [inflight.add(None) for _ in range(1000)]
    assert len(set(positions)) == 2000


def test_the_oldest_change_counts_from_when_it_was_noted_not_from_when_it_was_sent():
    inflight = Inflight(lambda: 50.0)
    assert inflight.get_oldest_s() is None
    inflight.add(None)
    old = inflight.add(None, since_s=20.0)
    assert inflight.get_oldest_s() == 20.0
    inflight.take(old)
    assert inflight.get_oldest_s() == 50.0
