"""The directory below which a program keeps its files."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fustor_core.program.errors import ProgramError
from fustor_core.program.problems import make_encodable

_PRIVATE = 0o700


def find_home(variable: str, default: str, environ: Mapping[str, str] = os.environ) -> Path:
    """
    Find a program's home; nothing is created.

    Args:
        variable: The environment variable that names it.
        default: Where it is without; may begin with `~`.
        environ: Where the variable is looked up.

    Raises:
        ProgramError: Its name is not UTF-8, which databases cannot open.
    """
    home = os.path.abspath(os.path.expanduser(environ.get(variable, "").strip() or default))
    if make_encodable(home) != home:
        raise ProgramError(f'{variable}: "{make_encodable(home)}" is not UTF-8; name another directory')
    return Path(home)


def prepare_home(variable: str, directories: Iterable[Path]) -> None:
    """
    Create directories, readable by their owner only.

    Args:
        variable: What names the home, for the remedy.
        directories: Parents first; they may exist.

    Raises:
        ProgramError: They cannot be created or written to.
    """
    for directory in directories:
        try:
            directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        except OSError as err:
            reason = "is in the way" if isinstance(err, FileExistsError) else f"cannot be created ({err.strerror})"
            remedy = f"set {variable} to a directory that you may write to"
            raise ProgramError(f'{variable}: "{directory}" {reason}; {remedy}') from err
        if not os.access(directory, os.W_OK | os.X_OK):
            remedy = f"correct its permissions or set {variable} to another directory"
            raise ProgramError(f'{variable}: "{directory}" cannot be written to; {remedy}')
