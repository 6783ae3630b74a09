from fustor_core import errors


def test_every_error_is_a_fustor_error_and_stands_in_the_drawn_tree() -> None:
    found = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert all(issubclass(kind, errors.FustorError) for kind in found.values())
    assert all(name in (errors.__doc__ or "") for name in found)


def test_unavailable_says_how_long_to_wait() -> None:
    error = errors.Unavailable("busy", retry_after_s=3.0)
    assert (str(error), error.retry_after_s) == ("busy", 3.0)
