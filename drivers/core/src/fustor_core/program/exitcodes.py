"""What the exit codes of a program's command line mean."""

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of a command; those of workers are others."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    ALREADY_RUNNING = 4
    BAD_CONFIG = 5
