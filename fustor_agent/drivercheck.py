"""Check the drivers' part of a configuration in forked children, where a driver can do no harm."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from fustor_agent.child import Child
from fustor_agent.config import Config, Draft, SenderConfig, SourceConfig
from fustor_agent.drivers import DriverKind, explain_unknown, list_drivers, load_pusher, load_source
from fustor_core.drivers import PusherContext, PusherDriver, SourceDriver
from fustor_core.errors import ConfigError, FustorError
from fustor_core.program.listener import format_url
from fustor_core.program.problems import KeyPath, Problem, format_key, make_encodable, show
from fustor_core.program.shape import Finding, find_misfits

_TIMEOUT_S = 30.0
_REMEDY = "upgrade or uninstall its package, or report it to its authors"


class Checked(msgspec.Struct, frozen=True):
    """
    What drivers say about their part of a configuration.

    Args:
        problems: In the order of the file.
        digests: Of the files that a sender's driver reads at its start, by the sender's id.
    """

    problems: tuple[Problem, ...] = ()
    digests: dict[str, str] = {}


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Checked)


def check(draft: Draft) -> Config:
    """
    Have the drivers check their part, and return the configuration.

    Raises:
        BadConfig: Anything is wrong; holds all problems, those of the drivers and all others.
    """
    checked = ask_drivers(draft)
    return msgspec.structs.replace(draft.finish(checked.problems), digests=checked.digests)


def check_drivers(config: Config | Draft, *, probe: bool = False, timeout_s: float = _TIMEOUT_S) -> list[Problem]:
    """Return the problems that `ask_drivers` finds."""
    return list(ask_drivers(config, probe=probe, timeout_s=timeout_s).problems)


def ask_drivers(config: Config | Draft, *, probe: bool = False, timeout_s: float = _TIMEOUT_S) -> Checked:
    """
    Check that every driver loads and takes its configuration.

    Each entry is checked in a child of its own: no driver is imported in this process, and
    one that crashes or hangs is a problem like any other. Call it while no thread runs.

    Args:
        config: Sources and senders of pipes that are switched off are checked too.
        probe: Also look whether sources can be read and receivers answer.
        timeout_s: For one driver.
    """
    problems: list[Problem] = []
    digests: dict[str, str] = {}
    for path, entry in config.list_entries():
        checked = _check_entry(_Check(config, path, entry, probe=probe), timeout_s)
        problems += checked.problems
        digests |= checked.digests
    return Checked(tuple(problems), digests)


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
        self, config: Config | Draft, path: KeyPath, entry: SourceConfig | SenderConfig, *, probe: bool
    ) -> None:
        self._config = config
        self._kind = DriverKind.SOURCE if isinstance(entry, SourceConfig) else DriverKind.PUSHER
        self.path = path
        self._entry = entry
        self._probe = probe

    def __call__(self) -> Checked:
        """Check; whatever the driver does is a problem at worst."""
        try:
            return self._check()
        except BaseException as err:  # A driver is a stranger's code, and may even raise SystemExit.
            return self.fail(f"checking it raises {type(err).__name__}: {err}")

    def fail(self, reason: str) -> Checked:
        """Say that the driver cannot even be asked."""
        return Checked((self.problem("type", None, reason, _REMEDY),))

    def _check(self) -> Checked:
        driver: type[SourceDriver] | type[PusherDriver]
        try:
            driver = load_source(self._entry.type) if self._kind is DriverKind.SOURCE else load_pusher(self._entry.type)
        except FustorError as err:
            return Checked((self.problem("type", self._entry.type, str(err)),))
        value = self._resolve()
        findings = find_misfits(value, driver.Config)
        if findings:
            return Checked(tuple(map(self._to_problem, findings)))
        settings = msgspec.convert(value, driver.Config)
        problems = self._try_out(driver, settings) if self._probe else ()
        digests = {self._entry.id: driver.digest_files(settings)} if issubclass(driver, PusherDriver) else {}
        return Checked(tuple(problems), digests)

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
        return resolve_embedded(self._entry, url=format_url(fusion.host, fusion.port), key="made-on-first-start")

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
        file = make_encodable(self._config.file or "--watch")
        return Problem(file, lines.get(known), format_key(path), value, make_encodable(reason), remedy)


def _check_entry(check: _Check, timeout_s: float) -> Checked:
    if not check.is_installed():
        return Checked((check.explain_unknown(),))
    child = Child(lambda: _encode(check()))
    try:
        data = child.read(timeout_s)
    finally:
        how = child.end()
    if data is None:
        return check.fail(f"the driver did not finish its check within {timeout_s:g} s")
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return check.fail(f"the driver ended the process that checked it ({how})")
