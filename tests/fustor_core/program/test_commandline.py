import argparse
import sys

import pytest

from fustor_core.program.commandline import add_timeout, run_command
from fustor_core.program.errors import BadConfig, NotRunning
from fustor_core.program.problems import Problem


def raise_(error: BaseException) -> int:
    raise error


def test_an_error_is_said_on_standard_error_and_becomes_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: raise_(NotRunning("it does not run"))) == 3
    assert capsys.readouterr() == ("", "it does not run\n")
    problems = [Problem("f", 2, "a.b", '"x"', "it is odd", "make it even"), Problem("f", None, "", "", "no", "")]
    assert run_command(lambda: raise_(BadConfig(problems))) == 5
    assert capsys.readouterr().err == 'f:2: a.b = "x": it is odd; make it even\nf: no\n'


def test_an_interrupt_is_a_failure_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: raise_(KeyboardInterrupt())) == 1
    assert capsys.readouterr() == ("", "")
    assert run_command(lambda: print("done", file=sys.stdout) or 0) == 0


@pytest.mark.parametrize("text", ["-1", "nan", "soon", "1e9"])
def test_a_timeout_is_a_number_of_seconds(text: str) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_timeout(parser)
    assert parser.parse_args(["--timeout", "0.5"]).timeout == 0.5
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser.parse_args([f"--timeout={text}"])
