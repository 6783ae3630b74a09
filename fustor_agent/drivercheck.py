"""Check the drivers' part of a configuration in forked children, where a driver can do no harm."""

import os
import select
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from fustor_agent.config import Config, SenderConfig, SourceConfig, format_url
from fustor_agent.drivers import DriverKind, explain_unknown, list_drivers, load_pusher, load_source
from fustor_agent.problems import KeyPath, Problem, format_key, show
from fustor_agent.shape import Finding, find_misfits
from fustor_core.drivers import PusherContext, PusherDriver, SourceDriver
from fustor_core.errors import ConfigError, FustorError

_TIMEOUT_S = 30.0
_REMEDY = "upgrade or uninstall its package, or report it to its authors"
_decoder = msgspec.msgpack.Decoder(list[Problem])


def check_drivers(config: Config, *, probe: bool = False, timeout_s: float = _TIMEOUT_S) -> list[Problem]:
    """
    Check that every driver loads and takes its configuration.

    Each entry is checked in a child of its own: no driver is imported in this process, and
    one that crashes or hangs is a problem like any other. Call it while no thread runs.

    Args:
        config: Sources and senders of pipes that are switched off are checked too.
        probe: Also look whether sources can be read and receivers answer.
        timeout_s: For one driver.

    Returns:
        All problems, in the order of the file.
    """
    problems: list[Problem] = []
    for place, source in enumerate(config.sources):
        check = _Check(config, DriverKind.SOURCE, ("sources", place), source, probe=probe)
        problems += _run_in_child(check, timeout_s)
    for place, sender in enumerate(config.senders):
        check = _Check(config, DriverKind.PUSHER, ("senders", place), sender, probe=probe)
        problems += _run_in_child(check, timeout_s)
    return problems


def resolve_embedded(sender: SenderConfig, *, url: str, key: str) -> dict[str, Any]:
    """
    Say what a sender's driver is given: `embedded` becomes the address and key of the agent's own Fusion.

    Args:
        sender: As configured.
        url: Where the embedded Fusion listens.
        key: Its key for pushing, unless the configuration names a credential.
    """
    if not sender.is_embedded:
        return sender.config
    return {"credential": key, **sender.config, "endpoint": url}


class _Check:
    """The check of one source or sender; runs in a child."""

    def __init__(
        self, config: Config, kind: DriverKind, path: KeyPath, entry: SourceConfig | SenderConfig, *, probe: bool
    ) -> None:
        self._config = config
        self._kind = kind
        self.path = path
        self._entry = entry
        self._probe = probe

    def __call__(self) -> list[Problem]:
        driver: type[SourceDriver] | type[PusherDriver]
        try:
            driver = load_source(self._entry.type) if self._kind is DriverKind.SOURCE else load_pusher(self._entry.type)
        except FustorError as err:
            return [self.problem("type", self._entry.type, str(err))]
        value = self._resolve()
        findings = find_misfits(value, driver.Config)
        if findings:
            return [self._to_problem(one) for one in findings]
        return self._try_out(driver, msgspec.convert(value, driver.Config)) if self._probe else []

    def is_installed(self) -> bool:
        """Tell whether there is such a driver; nothing is imported."""
        return any(one.kind is self._kind and one.type == self._entry.type for one in list_drivers())

    def explain_unknown(self) -> Problem:
        """Say that there is no such driver."""
        return self.problem("type", self._entry.type, *explain_unknown(self._kind, self._entry.type))

    def _resolve(self) -> dict[str, Any]:
        if isinstance(self._entry, SourceConfig):
            return self._entry.config
        fusion = self._config.fusion
        # Port 0 is any free one, known only once Fusion listens; here any number serves.
        return resolve_embedded(self._entry, url=format_url(fusion.host, fusion.port or 1), key="made-on-first-start")

    def _try_out(
        self, driver: type[SourceDriver] | type[PusherDriver], settings: msgspec.Struct
    ) -> list[Problem]:
        """Look whether the source can be read, or the receiver answers."""
        try:
            if issubclass(driver, SourceDriver):
                driver.test_connection(settings)
                return [self.problem("config", None, line) for line in driver.check_privileges(settings)]
            if not (isinstance(self._entry, SenderConfig) and self._entry.is_embedded):
                self._try_receiver(driver, settings)
        except ConfigError as err:
            return [self.problem("config", None, str(err))]
        except FustorError as err:
            return [self.problem("config", None, f"it cannot be reached now: {err}")]
        return []

    @staticmethod
    def _try_receiver(driver: type[PusherDriver], settings: msgspec.Struct) -> None:
        with tempfile.TemporaryDirectory() as folder:
            context = PusherContext(pipe_id="probe", schema="fs", agent_id="probe", state_dir=Path(folder))
            pusher = driver(settings, context)
            try:
                pusher.test_connection()
            finally:
                pusher.close()

    def _to_problem(self, one: Finding) -> Problem:
        path = (*self.path, "config", *one.path)
        value = "" if one.value is None else show(path, one.value)
        return self.place(path, value, one.reason, one.remedy)

    def problem(self, key: str, value: str | None, reason: str, remedy: str = "") -> Problem:
        """Make a problem of this entry."""
        path = (*self.path, key)
        return self.place(path, "" if value is None else show(path, value), reason, remedy)

    def place(self, path: KeyPath, value: str, reason: str, remedy: str) -> Problem:
        """Make a problem at a path, with the line of the closest key that stands in the file."""
        lines, known = self._config.lines, path
        while known and known not in lines:
            known = known[:-1]
        return Problem(self._config.file or "--watch", lines.get(known), format_key(path), value, reason, remedy)


def _run_in_child(check: _Check, timeout_s: float) -> list[Problem]:
    if not check.is_installed():
        return [check.explain_unknown()]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(check, writing)
    os.close(writing)
    try:
        data = _read(reading, time.monotonic() + timeout_s)
    finally:
        os.close(reading)
        if not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if data is None:
        return [check.problem("type", None, f"the driver did not finish its check within {timeout_s:g} s", _REMEDY)]
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return [check.problem("type", None, f"the driver ended the process that checked it ({how})", _REMEDY)]


def _be_child(check: _Check, writing: int) -> None:
    code = 1
    try:
        # Nothing of the parent's may be held open or answered to here: locks, links, signals.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(writing, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        try:
            problems = check()
        except BaseException as err:  # A driver is a stranger's code, and may even raise SystemExit.
            problems = [check.problem("type", None, f"checking it raises {type(err).__name__}: {err}", _REMEDY)]
        data = msgspec.msgpack.encode(problems)
        with os.fdopen(3, "wb") as pipe:
            pipe.write(data)
        code = 0
    finally:
        # Never back into the parent's stack, whatever the driver did.
        os._exit(code)


def _read(reading: int, deadline: float) -> bytes | None:
    data = b""
    while True:
        if not select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        piece = os.read(reading, 65536)
        if not piece:
            return data
        data += piece
