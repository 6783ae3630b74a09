from fustor_supervisor.links import Links
from fustor_supervisor.specs import LinkSpec

AB = LinkSpec("ab", "a", "b")
BC = LinkSpec("bc", "b", "c")


def take(links: Links, *up: str) -> list[LinkSpec]:
    return links.take_due(lambda name: name in up)


def test_a_new_link_is_made_once_when_both_its_workers_are_up() -> None:
    links = Links()
    links.change([AB, BC])
    assert take(links, "a") == []
    assert take(links, "a", "b") == [AB]
    assert take(links, "a", "b", "c") == [BC]
    assert take(links, "a", "b", "c") == []


def test_a_new_process_makes_only_its_own_links_due() -> None:
    links = Links()
    links.change([AB, BC])
    take(links, "a", "b", "c")
    links.note_spawned("a")
    assert take(links, "a", "b", "c") == [AB]
    links.note_spawned("b")
    assert take(links, "a", "b", "c") == [AB, BC]


def test_a_link_that_could_not_be_made_stays_due() -> None:
    links = Links()
    links.change([AB])
    assert take(links, "a", "b") == [AB]
    links.put_back(AB)
    assert take(links, "a", "b") == [AB]


def test_a_new_plan_makes_due_what_is_new_or_joins_others_and_forgets_the_rest() -> None:
    links = Links()
    links.change([AB, BC])
    take(links, "a", "b", "c")
    links.change([LinkSpec("ab", "a", "c"), BC])
    assert take(links, "a", "b", "c") == [LinkSpec("ab", "a", "c")]
    links.note_spawned("b")
    links.change([])
    assert take(links, "a", "b", "c") == []
