"""Sets what a worker may use up, in its process."""

import os
import resource

from fustor_supervisor.specs import ResourceLimits


def limit_this_process(limits: ResourceLimits) -> None:
    """
    Set the ceilings of the calling process; for a worker right after its fork.

    Raises:
        OSError: A limit is above what this process may have; names it and the remedy.
    """
    for name, number, value in (
        ("open_files", resource.RLIMIT_NOFILE, limits.open_files),
        ("hard_memory_bytes", resource.RLIMIT_DATA, limits.hard_memory_bytes),
    ):
        if value is None:
            continue
        try:
            resource.setrlimit(number, (value, value))
        except (ValueError, OSError) as err:
            _, most = resource.getrlimit(number)
            raise OSError(f"{name} = {value} is more than this process may have; use at most {most}") from err
    os.nice(limits.nice)
