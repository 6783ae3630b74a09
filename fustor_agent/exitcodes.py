"""What the command line's exit codes mean."""

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of `fustor-agent`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    ALREADY_RUNNING = 4
    BAD_CONFIG = 5
