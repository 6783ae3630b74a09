from fustor_fusion.barriers import Barriers


def test_a_round_is_answered_when_every_session_has_answered():
    barriers = Barriers()
    round_ = barriers.begin([("s1", "a"), ("s2", "b")])
    first, second = barriers.take_due("s1", now_s=0.0) + barriers.take_due("s2", now_s=0.0)
    assert barriers.answer("s1", first, None)
    assert not round_.is_answered()
    assert round_.get_missing() == ["b"]
    assert not barriers.answer("s1", second, None)  # not its own
    assert barriers.answer("s2", second, "watches ran out")
    assert round_.is_answered()
    assert round_.get_error() == "agent b: watches ran out"


def test_a_question_is_asked_again_only_after_a_while():
    barriers = Barriers()
    barriers.begin([("s", "a")])
    (token,) = barriers.take_due("s", now_s=10.0)
    assert barriers.take_due("s", now_s=11.9) == []
    assert barriers.get_next_due("s") == 12.0
    assert barriers.take_due("s", now_s=12.0) == [token]
    assert barriers.answer("s", token, None)
    assert not barriers.answer("s", token, None)
    assert barriers.take_due("s", now_s=20.0) == []
    assert barriers.get_next_due("s") is None


def test_a_session_that_ends_fails_its_questions():
    barriers = Barriers()
    round_ = barriers.begin([("s", "a")])
    barriers.fail_session("s")
    assert round_.get_error() == "agent a: its session ended"


def test_an_ended_round_leaves_nothing_to_ask():
    barriers = Barriers()
    barriers.end(barriers.begin([("s", "a")]))
    assert barriers.take_due("s", now_s=0.0) == []


def test_a_session_with_more_to_look_at_is_asked_again_at_once_and_its_earlier_answer_counts_no_more():
    barriers = Barriers()
    round_ = barriers.begin([("s", "a"), ("other", "b")])
    (early,) = barriers.take_due("s", now_s=0.0)
    (others,) = barriers.take_due("other", now_s=0.0)
    barriers.ask_again("s")
    assert not barriers.answer("s", early, None)
    (late,) = barriers.take_due("s", now_s=0.0)
    assert barriers.answer("other", others, None)
    assert not round_.is_answered()
    assert barriers.answer("s", late, None)
    assert round_.is_answered()
    barriers.end(round_)
    assert not barriers.answer("s", late, None)


def test_an_answer_that_was_taken_before_is_not_asked_for_again():
    barriers = Barriers()
    round_ = barriers.begin([("s", "a")])
    (token,) = barriers.take_due("s", now_s=0.0)
    barriers.answer("s", token, None)
    barriers.ask_again("s")
    assert barriers.take_due("s", now_s=0.0) == []
    assert round_.is_answered()
