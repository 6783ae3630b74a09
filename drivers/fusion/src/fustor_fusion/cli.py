"""The command `fustor-fusion`: a Fusion of its own, in the foreground."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fustor_fusion import __version__
from fustor_fusion.config import FusionConfig
from fustor_fusion.keys import AGENT_KEY_FILE, READER_KEY_FILE, load_or_create_keys

DONE, FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="fustor-fusion", description="Serve a view to which agents push.")
    parser.add_argument("--version", action="version", version=f"fustor-fusion {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="serve in the foreground")
    start.add_argument("--port", type=int, default=8102, help="port to listen on (default 8102; 0 takes a free one)")
    start.add_argument("--view", default="main", help="name of the view (default main)")
    start.add_argument("--home", type=Path, default=Path("~/.fustor-fusion"), metavar="DIR",
                       help="where keys and databases are (default ~/.fustor-fusion)")
    options = parser.parse_args(argv)
    return _start(options.port, options.view, options.home.expanduser())


def _start(port: int, view: str, home: Path) -> int:
    import apsw

    from fustor_fusion.errors import DatabaseTooNew
    from fustor_fusion.server import FusionServer

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    state_dir = home / "state"
    try:
        agent_key, reader_key = load_or_create_keys(state_dir)
        config = FusionConfig(state_dir=state_dir, views=(view,), agent_key=agent_key, reader_key=reader_key, port=port)
        server = FusionServer(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        server.run(on_ready=lambda ready: _say_ready(ready, view, state_dir))
    except (OSError, apsw.Error, DatabaseTooNew) as err:
        print(f"fustor-fusion: {err}", file=sys.stderr)
        return FAILED
    return DONE


def _say_ready(port: int, view: str, state_dir: Path) -> None:
    print(f"Fusion serves view {view} on http://127.0.0.1:{port}\n"
          f"keys: {state_dir / AGENT_KEY_FILE} (may push), {state_dir / READER_KEY_FILE} (may only read)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
