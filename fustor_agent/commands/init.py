"""`fustor-agent init`: write a starter configuration."""

import argparse
import os
from pathlib import Path
from typing import Final

from fustor_agent.paths import find_paths
from fustor_core.program.errors import ProgramError
from fustor_core.program.exitcodes import ExitCode

STARTER: Final = """\
# Fustor Agent: what to watch and where to send it.
# Check this file with `fustor-agent validate --probe`, start with `fustor-agent start`,
# and after a change run `fustor-agent reload`.

# The web console. Port 0 switches it off.
console: {host: 127.0.0.1, port: 8100}

# The embedded Fusion. It runs only if a sender's endpoint is `embedded`.
fusion: {host: 127.0.0.1, port: 8102}

# Where changes come from.
sources:
  - id: my-files
    type: fs
    config:
      uri: /srv/data            # the directory to watch, an absolute path: change it

# Where changes go.
senders:
  - id: here
    type: fusion
    config:
      endpoint: embedded        # the Fusion inside this agent
  # A Fusion somewhere else:
  # - id: central
  #   type: fusion
  #   config:
  #     endpoint: http://fusion.example:8102
  #     credential: {env: FUSION_API_KEY}      # or {file: /path/to/key}

# Which source goes to which sender.
pipes:
  - {id: my-files, source_id: my-files, sender_id: here, enabled: true}
"""


def run(args: argparse.Namespace) -> int:
    """Write the file, unless there is one."""
    paths = find_paths()
    if args.config:
        path = Path(os.path.abspath(args.config))
    else:
        paths.prepare()
        path = paths.config
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as err:
        raise ProgramError(f'"{path}" exists and stays as it is; remove it or name another with --config') from err
    except OSError as err:
        raise ProgramError(f'"{path}" cannot be written ({err.strerror}); name another with --config') from err
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(STARTER)
    print(f"wrote {path}; set the directory to watch in it, then run `fustor-agent start`")
    return ExitCode.DONE
