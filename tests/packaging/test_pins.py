"""The pins cover what the distributions ask for, exactly and with hashes."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from checkout import ROOT, Distribution, distributions

FILES = ("constraints.txt", "constraints-dev.txt")


def pins(file: str) -> dict[str, Requirement]:
    """Return the pinned requirements by name; every line must be `name==version [; marker] --hash=...`."""
    found = {}
    for line in (ROOT / file).read_text().replace("\\\n", "").splitlines():
        requirement, _, hashes = line.partition(" --hash=")
        assert re.fullmatch(r"(sha256:[0-9a-f]{64}(\s+--hash=)?)+", hashes.strip()), line[:80]
        parsed = Requirement(requirement)
        assert [specifier.operator for specifier in parsed.specifier] == ["=="], requirement
        found[canonicalize_name(parsed.name)] = parsed
    return found


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    return specifier.version


@pytest.mark.parametrize("file", FILES)
def test_every_pin_is_exact_and_has_hashes(file: str) -> None:
    assert len(pins(file)) > 10


@pytest.mark.parametrize("distribution", distributions(), ids=lambda distribution: distribution.name)
def test_every_declared_requirement_is_pinned(distribution: Distribution) -> None:
    ours = {other.name: other.project.get("version", "1.0.0") for other in distributions()}
    runtime, dev = (pins(file) for file in FILES)
    project = distribution.project
    wanted = [(Requirement(line), runtime) for line in project.get("dependencies", [])]
    wanted += [(Requirement(line), dev) for line in project.get("optional-dependencies", {}).get("dev", [])]
    for requirement, pinned in wanted:
        name = canonicalize_name(requirement.name)
        if name in ours:
            assert str(requirement.specifier) == f"=={ours[name]}"
        else:
            assert version(pinned[name]) in requirement.specifier, requirement


def test_what_builds_the_wheels_is_pinned() -> None:
    for distribution in distributions():
        project = tomllib.loads((ROOT / distribution.folder / "pyproject.toml").read_text())
        (requirement,) = map(Requirement, project["build-system"]["requires"])
        assert str(requirement) == f"setuptools=={version(pins('constraints.txt')['setuptools'])}"


def test_tests_run_with_the_versions_that_users_get() -> None:
    runtime, dev = (pins(file) for file in FILES)
    assert {name: version(pin) for name, pin in runtime.items()} == {name: version(dev[name]) for name in runtime}


def test_our_own_distributions_are_never_taken_from_a_registry() -> None:
    for file in FILES:
        assert not [name for name in pins(file) if name.startswith("fustor")]


def test_all_distributions_have_one_version() -> None:
    versions = {distribution.project.get("version") for distribution in distributions()} - {None}
    assert versions == {"1.0.0"}
