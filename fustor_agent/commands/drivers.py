"""`fustor-agent drivers list`: the installed drivers."""

import argparse

from fustor_agent.drivers import list_drivers
from fustor_core.program.exitcodes import ExitCode


def run(args: argparse.Namespace) -> int:
    """List the drivers, without importing one."""
    for driver in list_drivers():
        print(f"{driver.kind.value:<7} {driver.type:<16} {driver.distribution} {driver.version}")
    return ExitCode.DONE
