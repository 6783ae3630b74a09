import pytest

from fustor_core.program.yamldoc import YamlError, parse


def test_every_key_and_item_knows_its_line() -> None:
    document = parse("a: 1\nb:\n  - x: 2\n  -\n    y: 3\n")
    assert document.value == {"a": 1, "b": [{"x": 2}, {"y": 3}]}
    assert document.lines[("a",)] == 1
    assert document.lines[("b", 0, "x")] == 3
    assert document.lines[("b", 1, "y")] == 5


def test_a_key_that_is_missing_has_the_line_of_what_should_hold_it() -> None:
    assert parse("a: 1\nb: {c: 2}\n").find_line(("b", "d")) == 2


def test_a_key_that_stands_twice_is_reported_with_both_lines() -> None:
    document = parse("a:\n  x: 1\n  y: 2\n  x: 3\n")
    assert [(one.path, one.line, one.first_line) for one in document.repeated] == [(("a", "x"), 4, 2)]


def test_a_merged_mapping_does_not_count_as_repeated() -> None:
    document = parse("base: &base {x: 1, y: 2}\nmore:\n  <<: *base\n  x: 3\n")
    assert document.value["more"] == {"x": 3, "y": 2}
    assert document.repeated == ()


def test_an_empty_text_is_nothing() -> None:
    assert parse("# only a comment\n").value is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\nb: 2\n", 2),
        ("a: 1\n\tb: 2\n", 2),
        ("a: &x [*x]\n", 1),
        ("a: !!python/object/apply:os.system [true]\n", 1),
        ("a: 2024-13-45\n", 1),
        ("--- 1\n--- 2\n", 2),
        ("a: *missing\n", 1),
    ],
)
def test_what_cannot_be_used_names_its_line(text: str, line: int) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text)
    assert caught.value.line == line


def test_a_few_lines_that_describe_billions_of_nodes_are_refused() -> None:
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(YamlError):
        parse("\n".join(levels))


def test_characters_that_yaml_forbids_are_an_error_not_a_crash() -> None:
    with pytest.raises(YamlError):
        parse("a: \x00\n")


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(YamlError):
        parse("[" * 5000)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: !!bool maybe", "it is not what its tag tag:yaml.org,2002:bool says"),
        ("a: 1\nb: !!timestamp soon", "it is not what its tag tag:yaml.org,2002:timestamp says"),
        ('a: 1\nb: !!int ""', "it is not what its tag tag:yaml.org,2002:int says"),
        ("a: 1\nb: {<<: 5}", "expected a mapping or list of mappings for merging, but found scalar"),
    ],
)
def test_a_value_that_cannot_be_what_it_says_is_an_error_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text)
    assert str(caught.value) == reason
    assert caught.value.line == 2


def test_merges_of_merges_are_an_error_and_not_billions_of_keys() -> None:
    inner = "&a0 {x: 1, y: 2}"
    for level in range(1, 20):
        inner = f"&a{level} {{<<: [{inner}{f', *a{level - 1}' * 9}]}}"
    with pytest.raises(YamlError, match="name too many keys"):
        parse(inner)
