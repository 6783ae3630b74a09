"""What a package says is public is what it makes public."""

import ast
import importlib
import importlib.metadata
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from checkout import ROOT, Distribution, distributions, files

PACKAGES = sorted(
    ".".join(path.parent.relative_to(distribution.package.parent).parts)
    for distribution in distributions()
    for path in files(untracked=True)
    if path.name == "__init__.py" and path.is_relative_to(distribution.package)
)

# Imported only where it is there, and done without where it is not.
OPTIONAL = {"setproctitle", "shtab", "zstandard"}


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_the_public_names(name: str) -> None:
    package = importlib.import_module(name)
    public = {
        attribute
        for attribute, value in vars(package).items()
        if not attribute.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(getattr(package, "__all__", ())) == public


@pytest.mark.parametrize("distribution", distributions(), ids=lambda distribution: distribution.name)
def test_the_version_in_the_code_is_that_of_the_metadata(distribution: Distribution) -> None:
    module = importlib.import_module(distribution.import_name)
    assert module.__version__ == distribution.project.get("version", "1.0.0")


@pytest.mark.parametrize("distribution", distributions(), ids=lambda distribution: distribution.name)
def test_what_is_imported_is_declared(distribution: Distribution) -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in distribution.project["dependencies"]}
    providers = importlib.metadata.packages_distributions()
    undeclared = set()
    for path in files(untracked=True):
        if path.suffix != ".py" or not path.is_relative_to(distribution.package):
            continue
        for module in imported(ROOT / path) - sys.stdlib_module_names - {distribution.import_name} - OPTIONAL:
            names = {canonicalize_name(name) for name in providers.get(module, [module])}
            if not names & declared:
                undeclared.add(f"{path} imports {module}")
    assert sorted(undeclared) == []


def imported(path: Path) -> set[str]:
    """Return the top-level names of the modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found
