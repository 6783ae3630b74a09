from fustor_core.testing.pushers import make_row
from fustor_pusher_fusion.recent import Recent, parent
from fustor_pusher_fusion.wire import Delete, Upsert


def upsert(path: bytes, index: int, *, directory: bool = False) -> Upsert:
    return Upsert(path, make_row(b"", mode=0o040755 if directory else 0o100644), index)


def test_the_parent_of_a_name_is_its_directory() -> None:
    assert [parent(path) for path in (b"/", b"/a", b"/a/b")] == [b"/", b"/", b"/a"]


def test_children_are_those_that_were_pushed_since_the_listing_began() -> None:
    recent = Recent()
    for change in (upsert(b"/d/old", 4), upsert(b"/d/f", 6), upsert(b"/d/s", 5, directory=True), upsert(b"/e/g", 7)):
        recent.add(change)
    files, directories = recent.children(b"/d", 5)
    assert files == [b"/d/f"]
    assert [one.path for one in directories] == [b"/d/s"]


def test_a_deleted_name_is_no_child() -> None:
    recent = Recent()
    recent.add(upsert(b"/d/f", 6))
    recent.add(Delete(b"/d/f", 7))
    assert recent.children(b"/d", 5) == ([], [])


def test_a_listing_is_not_due_when_a_newer_one_took_effect() -> None:
    recent = Recent()
    recent.finish(b"/d", 8)
    assert not recent.is_due(b"/d", 8)
    assert recent.is_due(b"/d", 9)


def test_a_listing_is_not_due_when_its_directory_went_later() -> None:
    recent = Recent()
    recent.add(Delete(b"/a", 7))
    assert not recent.is_due(b"/a/b/c", 6)
    assert recent.is_due(b"/a/b/c", 8)
    recent.add(upsert(b"/a", 9, directory=True))
    assert recent.is_due(b"/a/b/c", 6)


def test_a_listing_is_not_due_when_a_file_took_the_place_above_it() -> None:
    recent = Recent()
    recent.add(upsert(b"/a", 7))
    assert not recent.is_due(b"/a/b/c", 6)
    assert recent.is_due(b"/a/b/c", 8)
    assert recent.is_overtaken(upsert(b"/a/b", 6))


def test_what_is_older_than_what_was_pushed_is_overtaken() -> None:
    recent = Recent()
    recent.add(upsert(b"/d/f", 6))
    recent.add(Delete(b"/gone", 7))
    recent.finish(b"/e", 8)
    for path, index in ((b"/d/f", 6), (b"/gone/x", 7), (b"/e/y", 8)):
        assert recent.is_overtaken(upsert(path, index - 1))
        assert not recent.is_overtaken(upsert(path, index))


def test_what_had_to_be_forgotten_makes_older_listings_incomplete() -> None:
    recent = Recent(max_names=3)
    for index in range(1, 6):
        recent.add(upsert(b"/d/%d" % index, index))
    assert not recent.is_complete(2)
    assert recent.is_complete(3)
    assert recent.children(b"/d", 3)[0] == [b"/d/3", b"/d/4", b"/d/5"]


def test_names_that_a_listing_used_up_do_not_count_as_forgotten() -> None:
    recent = Recent(max_names=2)
    recent.add(upsert(b"/d/f", 5))
    recent.finish(b"/d", 4)
    for index in (6, 7, 8):
        recent.add(upsert(b"/e/g", index))
    assert recent.is_complete(5)
