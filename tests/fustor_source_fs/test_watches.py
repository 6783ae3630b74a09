"""The tree of nodes: paths, holders of watches, detaching and dropping."""

import pytest

from fustor_source_fs.watches import Node, Tree


def grow(tree: Tree, *names: bytes) -> Node:
    node = tree.root
    for name in names:
        node = node.children.get(name) or tree.add(node, name)
    return node


@pytest.fixture
def tree() -> Tree:
    return Tree()


def test_a_path_is_what_the_ancestors_say_now(tree):
    leaf, other = grow(tree, b"a", b"b", b"c"), grow(tree, b"z")
    assert tree.get_path(tree.root) == b"/"
    assert tree.get_path(leaf) == b"/a/b/c"
    moved = leaf.parent
    tree.detach(moved)
    tree.attach(moved, other, b"y")
    assert tree.get_path(leaf) == b"/z/y/c"


def test_a_detached_node_and_all_below_it_have_no_path(tree):
    leaf = grow(tree, b"a", b"b", b"c")
    tree.detach(leaf.parent)
    assert tree.get_path(leaf) is None
    assert tree.get_path(leaf.parent) is None
    assert tree.get_path(tree.root.children[b"a"]) == b"/a"


def test_finding_stops_at_the_deepest_node_and_gives_the_rest(tree):
    node = grow(tree, b"a", b"b")
    assert tree.find(b"/a/b") == (node, [])
    assert tree.find(b"/a/b/c/d") == (node, [b"c", b"d"])
    assert tree.find(b"/") == (tree.root, [])
    assert tree.find(b"//a///b/") == (node, [])


def test_a_walk_meets_parents_before_their_children(tree):
    for names in ((b"a", b"b"), (b"a", b"c", b"d"), (b"e",)):
        grow(tree, *names)
    seen = [tree.get_path(node) for node in tree.walk(tree.root)]
    assert sorted(seen) == [b"/", b"/a", b"/a/b", b"/a/c", b"/a/c/d", b"/e"]
    assert all(seen.index(path.rpartition(b"/")[0] or b"/") < seen.index(path) for path in seen[1:])


def test_being_below_includes_the_node_itself_and_nothing_beside_it(tree):
    top, leaf, other = grow(tree, b"a"), grow(tree, b"a", b"b"), grow(tree, b"ab")
    assert tree.is_below(leaf, top)
    assert tree.is_below(top, top)
    assert not tree.is_below(top, leaf)
    assert not tree.is_below(other, top)


def test_a_watch_that_two_nodes_hold_is_given_up_with_the_second(tree):
    first, second = grow(tree, b"a"), grow(tree, b"b")
    tree.hold_watch(first, 7)
    tree.hold_watch(second, 7)
    assert set(tree.get_holders(7)) == {first, second}
    assert tree.drop(first) == ([first], [])
    assert tree.get_holders(7) == (second,)
    assert tree.drop(second) == ([second], [7])
    assert tree.get_holders(7) == ()


def test_a_third_holder_keeps_a_watch_too(tree):
    nodes = [grow(tree, name) for name in (b"a", b"b", b"c")]
    for node in nodes:
        tree.hold_watch(node, 7)
    assert tree.release_watch(nodes[1]) is None
    assert set(tree.get_holders(7)) == {nodes[0], nodes[2]}
    assert tree.watch_count == 1


def test_holding_another_watch_gives_up_the_former_one(tree):
    node, other = grow(tree, b"a"), grow(tree, b"b")
    assert tree.hold_watch(node, 1) is None
    assert tree.hold_watch(node, 1) is None
    assert tree.hold_watch(other, 1) is None
    assert tree.hold_watch(node, 2) is None  # the other still holds it
    assert tree.hold_watch(other, 2) == 1
    assert set(tree.get_holders(2)) == {node, other}


def test_dropping_a_subtree_gives_up_all_of_its_watches_and_counts_it_out(tree):
    leaf = grow(tree, b"a", b"b")
    grow(tree, b"c")
    tree.hold_watch(leaf, 5)
    tree.hold_watch(leaf.parent, 4)
    assert tree.size == 4
    gone, unheld = tree.drop(leaf.parent)
    assert set(gone) == {leaf, leaf.parent}
    assert sorted(unheld) == [4, 5]
    assert tree.size == 2
    assert list(tree.root.children) == [b"c"]


def test_a_watch_that_the_kernel_removed_has_no_holders_any_more(tree):
    first, second = grow(tree, b"a"), grow(tree, b"b")
    tree.hold_watch(first, 7)
    tree.hold_watch(second, 7)
    assert set(tree.forget_watch(7)) == {first, second}
    assert (first.watch, second.watch, tree.watch_count) == (None, None, 0)
    assert tree.forget_watch(7) == ()


def test_unsettling_raises_the_generation_of_the_whole_subtree_and_of_nothing_else(tree):
    leaf, other = grow(tree, b"a", b"b", b"c"), grow(tree, b"z")
    before = (leaf.generation, leaf.parent.generation, other.generation)
    tree.unsettle(leaf.parent)
    assert [tree.is_settled(node) for node in (leaf, other, tree.root)] == [False, True, True]
    assert (leaf.generation, leaf.parent.generation, other.generation) == (before[0] + 1, before[1] + 1, before[2])


def test_a_detached_node_is_between_two_places_and_a_dropped_one_is_not(tree):
    leaf = grow(tree, b"a", b"b")
    assert not tree.is_detached(leaf)
    assert not tree.is_detached(tree.root)
    tree.detach(leaf.parent)
    assert tree.is_detached(leaf)
    tree.drop(leaf.parent)
    assert not tree.is_detached(leaf)


def test_a_thousand_levels_are_no_deeper_than_one(tree):
    names = [b"%d" % number for number in range(1000)]
    leaf = grow(tree, *names)
    assert tree.get_path(leaf) == b"/" + b"/".join(names)
    assert tree.find(tree.get_path(leaf)) == (leaf, [])
    top = tree.root.children[b"0"]
    assert tree.is_below(leaf, top)
    tree.detach(top)
    assert tree.get_top(leaf) is top
    tree.attach(top, tree.root, b"moved")
    tree.unsettle(top)
    assert leaf.generation == 1
    gone, _ = tree.drop(top)
    assert len(gone) == 1000
    assert tree.size == 1
