"""What the pages take from the code is what the code says now."""

import importlib.util
from types import ModuleType

import msgspec
import pytest

from checkout import ROOT


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_page_is_what_the_structs_say(generate: ModuleType) -> None:
    assert generate.CONFIG.read_text() == generate.render_config(), "run `python docs/generate.py`"


def test_the_state_diagram_is_the_table(generate: ModuleType) -> None:
    text = generate.OPERATIONS.read_text()
    assert text == generate.render_states(text), "run `python docs/generate.py`"
    assert "stateDiagram-v2" in text


def test_the_keys_of_a_fusion_of_its_own_are_what_the_struct_says(generate: ModuleType) -> None:
    text = generate.FUSION.read_text()
    assert text == generate.render_fusion(text), "run `python docs/generate.py`"
    assert "| `views[].id` |" in text


def test_a_key_without_a_word_about_it_is_an_error(generate: ModuleType) -> None:
    class Mute(msgspec.Struct):
        """
        A configuration.

        Args:
            told: Something.
        """

        told: int = 1
        untold: int = 1

    with pytest.raises(KeyError, match="untold"):
        list(generate.list_keys(Mute))


def test_nested_keys_are_listed_below_theirs(generate: ModuleType) -> None:
    class Inner(msgspec.Struct):
        """
        Options.

        Args:
            depth: How deep,
                in steps.
        """

        depth: int = 1

    class Outer(msgspec.Struct):
        """
        A configuration.

        Args:
            options: Further ones, or None.
        """

        options: Inner | None = None

    found = [(key, meaning) for key, _, meaning in generate.list_keys(Outer)]
    assert found == [("options", "Further ones, or `null`."), ("options.depth", "How deep, in steps.")]
