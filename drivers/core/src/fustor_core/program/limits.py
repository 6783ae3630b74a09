"""What the system allows a program."""

import resource


def raise_file_limit() -> None:
    """Allow as many open files as the hard limit does; for a program and all that it forks afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
