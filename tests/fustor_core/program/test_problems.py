from fustor_core.program.problems import Problem, format_key, show


def test_a_problem_reads_as_place_key_value_reason_remedy() -> None:
    problem = Problem("a.yaml", 3, "pipes[0].id", '"x y"', "it is not usable", "rename it")
    assert str(problem) == 'a.yaml:3: pipes[0].id = "x y": it is not usable; rename it'


def test_a_problem_of_a_whole_file_names_only_the_file() -> None:
    assert str(Problem("a.yaml", None, "", "", "there is no such file", "write one")) == (
        "a.yaml: there is no such file; write one"
    )


def test_keys_are_written_as_paths() -> None:
    assert format_key(("sources", 0, "config", "uri")) == "sources[0].config.uri"


def test_credentials_are_hidden_wherever_they_stand() -> None:
    assert show(("senders", 0, "config", "credential"), "hunter2") == "(hidden)"
    assert show(("senders", 0, "config", "credential", "value"), "hunter2") == "(hidden)"
    assert show(("config", "API_KEY"), 12345) == "(hidden)"


def test_the_password_of_a_url_is_hidden() -> None:
    assert show(("uri",), "postgres://me:hunter2@db/x") == '"postgres://me:***@db/x"'


def test_long_values_are_cut() -> None:
    assert len(show(("a",), "x" * 10_000)) < 100
