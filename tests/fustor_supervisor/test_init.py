import ast
from pathlib import Path

import fustor_supervisor


def test_all_names_what_is_public() -> None:
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(Path(fustor_supervisor.__file__).read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(fustor_supervisor.__all__) == imported
    assert all(hasattr(fustor_supervisor, name) for name in fustor_supervisor.__all__)


def test_the_supervisor_knows_nothing_of_the_rest_of_the_project() -> None:
    for path in Path(fustor_supervisor.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            foreign = [name for name in names if name.startswith("fustor_")]
            assert [name for name in foreign if not name.startswith("fustor_supervisor")] == []
