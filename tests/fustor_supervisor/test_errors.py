import inspect

from fustor_supervisor import errors


def test_the_docstring_draws_every_error() -> None:
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, Exception)]
    assert len(classes) > 1
    assert errors.__doc__ is not None
    drawn = [line.split()[1] for line in errors.__doc__.splitlines() if line.strip().startswith(("├", "└"))]
    assert sorted(drawn) == sorted(item.__name__ for item in classes if item is not errors.SupervisorError)
    assert all(issubclass(item, errors.SupervisorError) for item in classes)
