"""The agent's configuration: its shape, and reading it with all errors at once."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from fustor_core.program.errors import BadConfig
from fustor_core.program.listener import format_url
from fustor_core.program.problems import KeyPath, Problem, make_encodable, show
from fustor_core.program.shape import Finding, find_misfits
from fustor_core.program.yamlfile import check_ids, find_repeated, list_ids, read_yaml, to_problem

CONSOLE_PORT_VARIABLE = "FUSTOR_CONSOLE_PORT"
FUSION_PORT_VARIABLE = "FUSTOR_FUSION_PORT"
EMBEDDED = "embedded"
WATCH_ID = "watch"

_HIGHEST_PORT = 65535
_LONGEST_PORT = 5
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

Entry = TypeVar("Entry", bound=msgspec.Struct)
Listening = TypeVar("Listening", "ConsoleConfig", "FusionConfig")

Port = Annotated[int, msgspec.Meta(ge=0, le=_HIGHEST_PORT)]
Interval = Annotated[float, msgspec.Meta(ge=0)]


class ConsoleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where the console listens.

    Args:
        host: Address; loopback unless you know what you do.
        port: 0 switches the console off.
    """

    host: str = "127.0.0.1"
    port: Port = 8100

    @property
    def url(self) -> str | None:
        """The console's address; None when it is off."""
        return format_url(self.host, self.port) if self.port else None


class FusionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where the embedded Fusion listens; used only when a sender's endpoint is `embedded`.

    Args:
        host: Address; loopback unless you know what you do.
        port: Senders and readers must know it, so it cannot be left to the system.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=_HIGHEST_PORT)] = 8102

    @property
    def url(self) -> str:
        """The embedded Fusion's address."""
        return format_url(self.host, self.port)


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where changes come from.

    Args:
        id: Its name in this file.
        type: The driver, as `fustor-agent drivers list` shows it.
        config: What the driver is given.
    """

    id: str
    type: str
    config: dict[str, Any] = {}


class SenderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where changes go.

    Args:
        id: Its name in this file.
        type: The driver, as `fustor-agent drivers list` shows it.
        config: What the driver is given.
    """

    id: str
    type: str
    config: dict[str, Any] = {}

    @property
    def is_embedded(self) -> bool:
        """Tell whether it sends to the Fusion that runs inside this agent."""
        return self.config.get("endpoint") == EMBEDDED


class PipeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One source bound to one sender.

    Args:
        id: Its name; also the name of its view in the embedded Fusion.
        source_id: A source of this file.
        sender_id: A sender of this file.
        enabled: Whether it runs.
        audit_interval_s: Seconds from the end of a snapshot or an audit to the next incremental audit, which finds
            what was made, removed or renamed where no event could come from; 0 is never.
            What a receiver asks for goes before it.
        full_audit_interval_s: Seconds from the end of a snapshot or a full audit to the next full audit, which also
            finds what was written in place; 0 is never.
    """

    id: str
    source_id: str
    sender_id: str
    enabled: bool = True
    audit_interval_s: Interval = 600.0
    full_audit_interval_s: Interval = 86_400.0


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What each worker of a kind may use, and how it is treated when it fails.

    Args:
        soft_memory_mb: A worker that uses more (million bytes) is reported, and replaced once it owes no work.
        hard_memory_mb: A worker that needs more fails, and is replaced.
        open_files: How many descriptors it may have.
        nice: How far it stands back behind other programs.
        restart_cap_s: The longest delay between restarts.
        healthy_after_s: A worker that was ready for this long is restarted at once again.
        stuck_after_s: How long it may owe work without moving; null leaves it to the kind of worker.
            A driver that waits with a longer time limit of its own is given that long.
    """

    soft_memory_mb: Annotated[int, msgspec.Meta(ge=1)] | None = None
    hard_memory_mb: Annotated[int, msgspec.Meta(ge=1)] | None = None
    open_files: Annotated[int, msgspec.Meta(ge=64)] | None = None
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 0
    restart_cap_s: Annotated[float, msgspec.Meta(ge=0.25)] = 10.0
    healthy_after_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    stuck_after_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class WorkersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Limits of the agent's processes, by kind; each worker has them for itself.

    Args:
        source: The source worker of each pipe.
        pusher: The pusher worker of each pipe.
        fusion: The embedded Fusion.
        console: The console.
    """

    source: WorkerConfig = WorkerConfig()
    pusher: WorkerConfig = WorkerConfig()
    fusion: WorkerConfig = WorkerConfig()
    console: WorkerConfig = WorkerConfig()


class _FileConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may stand in the file."""

    console: ConsoleConfig = ConsoleConfig()
    fusion: FusionConfig = FusionConfig()
    sources: tuple[SourceConfig, ...] = ()
    senders: tuple[SenderConfig, ...] = ()
    pipes: tuple[PipeConfig, ...] = ()
    workers: WorkersConfig = WorkersConfig()


class Config(msgspec.Struct, frozen=True):
    """
    A configuration without errors of its own; drivers check their part with `check_drivers`.

    Args:
        console: Where the console listens.
        fusion: Where the embedded Fusion listens.
        sources: By id, unique.
        senders: By id, unique.
        pipes: By id, unique; their sources and senders exist.
        workers: Limits of the processes.
        file: The file it was read from; None for `--watch`.
        watch: The directory of `--watch`; None for a file.
        lines: The line of each key; empty for `--watch`.
        digests: Of the files that a sender's driver reads at its start, by the sender's id, once drivers were asked.
    """

    console: ConsoleConfig = ConsoleConfig()
    fusion: FusionConfig = FusionConfig()
    sources: tuple[SourceConfig, ...] = ()
    senders: tuple[SenderConfig, ...] = ()
    pipes: tuple[PipeConfig, ...] = ()
    workers: WorkersConfig = WorkersConfig()
    file: str | None = None
    watch: str | None = None
    lines: dict[KeyPath, int] = {}
    digests: dict[str, str] = {}

    def list_entries(self) -> list[tuple[KeyPath, SourceConfig | SenderConfig]]:
        """Return all sources and senders, each with its place in the file."""
        return _list_entries(dict(enumerate(self.sources)), dict(enumerate(self.senders)))

    def get_source(self, pipe: PipeConfig) -> SourceConfig:
        """Return the source of a pipe."""
        return next(source for source in self.sources if source.id == pipe.source_id)

    def get_sender(self, pipe: PipeConfig) -> SenderConfig:
        """Return the sender of a pipe."""
        return next(sender for sender in self.senders if sender.id == pipe.sender_id)

    @property
    def embedded_views(self) -> tuple[str, ...]:
        """The views of the embedded Fusion, one for each enabled pipe that sends to it; without one it does not run."""
        return tuple(pipe.id for pipe in self.pipes if pipe.enabled and self.get_sender(pipe).is_embedded)


class Draft(msgspec.Struct, frozen=True):
    """
    What was read, right or wrong, before drivers have checked their part of it.

    Args:
        config: None when there are problems already.
        problems: What is wrong without asking a driver.
        sources: Those that can be shown to their drivers, by their place in the file.
        senders: Likewise.
        fusion: Where the embedded Fusion listens, if that can be read.
        file: As in `Config`.
        lines: As in `Config`.
    """

    config: Config | None = None
    problems: tuple[Problem, ...] = ()
    sources: dict[int, SourceConfig] = {}
    senders: dict[int, SenderConfig] = {}
    fusion: FusionConfig = FusionConfig()
    file: str | None = None
    lines: dict[KeyPath, int] = {}

    def list_entries(self) -> list[tuple[KeyPath, SourceConfig | SenderConfig]]:
        """Return the sources and senders that fit, each with its place in the file."""
        return _list_entries(self.sources, self.senders)

    def finish(self, found: Sequence[Problem] = ()) -> Config:
        """
        Return the configuration.

        Args:
            found: What the drivers found.

        Raises:
            BadConfig: Anything is wrong; holds all problems, in the order of the file.
        """
        problems = [*self.problems, *found]
        if problems or self.config is None:
            raise BadConfig(sorted(problems, key=lambda one: (one.file, one.line or 0)))
        return self.config


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """
    Read and check a configuration file, without asking its drivers.

    Args:
        path: The YAML file.
        environ: Where the two port variables are looked up.

    Raises:
        BadConfig: Anything is wrong; holds all problems that could be found.
    """
    return read(path, environ).finish()


def read(path: Path, environ: Mapping[str, str] = os.environ) -> Draft:
    """
    Read a configuration file; what is wrong in one place does not hide what is wrong in another.

    Args:
        path: The YAML file.
        environ: Where the two port variables are looked up.

    Raises:
        BadConfig: It cannot be read, is not YAML, or holds nothing.
    """
    # For people; the path itself may be no UTF-8.
    file = make_encodable(str(path))
    remedy = "write one with `fustor-agent init`, or watch a directory with `fustor-agent start --watch DIR`"
    document = read_yaml(path, if_missing=remedy)
    value = document.value
    if not value:  # many a program empties a file before it writes it: a reload at that moment would stop all pipes
        instead = "write `pipes: []` for an agent without pipes"
        raise BadConfig([Problem(file, None, "", "", "it holds nothing", instead)])
    findings = find_repeated(document)
    misfits = find_misfits(value, _FileConfig)
    findings += misfits
    findings += _find_contradictions(value, misfits)
    problems = [to_problem(one, file=file, document=document) for one in findings]
    overrides = _read_environment(environ, problems)
    console = _override(_take_section(value, "console", ConsoleConfig, misfits), overrides.get(CONSOLE_PORT_VARIABLE))
    fusion = _override(_take_section(value, "fusion", FusionConfig, misfits), overrides.get(FUSION_PORT_VARIABLE))
    sources = _take_fitting(value, "sources", SourceConfig, misfits)
    senders = _take_fitting(value, "senders", SenderConfig, misfits)
    pipes = _take_fitting(value, "pipes", PipeConfig, misfits)
    embedded = {sender.id for sender in senders.values() if sender.is_embedded}
    if any(pipe.enabled and pipe.sender_id in embedded for pipe in pipes.values()):
        problems += _check_two_ports(console, fusion, file, document.lines)
    config = Config(
        console=console,
        fusion=fusion,
        sources=tuple(sources.values()),
        senders=tuple(senders.values()),
        pipes=tuple(pipes.values()),
        workers=_take_section(value, "workers", WorkersConfig, misfits),
        file=str(path),
        lines=document.lines,
    )
    return Draft(
        config=None if problems else config,
        problems=tuple(problems),
        sources=_take_for_drivers(value, "sources", SourceConfig),
        senders=_take_for_drivers(value, "senders", SenderConfig),
        fusion=fusion,
        file=str(path),
        lines=document.lines,
    )


def build_watch(directory: str, environ: Mapping[str, str] = os.environ) -> Config:
    """
    Build the configuration of `--watch DIR`: one tree, one embedded Fusion, all called `watch`.

    Args:
        directory: Need not exist; a relative one is taken from the current directory.
        environ: Where the two port variables are looked up.

    Raises:
        BadConfig: A port variable is wrong.
    """
    problems: list[Problem] = []
    overrides = _read_environment(environ, problems)
    console = _override(ConsoleConfig(), overrides.get(CONSOLE_PORT_VARIABLE))
    fusion = _override(FusionConfig(), overrides.get(FUSION_PORT_VARIABLE))
    problems += _check_two_ports(console, fusion, None, {})
    if problems:
        raise BadConfig(problems)
    # Not resolved: looking at the tree, even at its links, is the source worker's part.
    watch = os.path.abspath(directory)
    return Config(
        console=console,
        fusion=fusion,
        sources=(SourceConfig(id=WATCH_ID, type="fs", config={"uri": watch}),),
        senders=(SenderConfig(id=WATCH_ID, type="fusion", config={"endpoint": EMBEDDED}),),
        pipes=(PipeConfig(id=WATCH_ID, source_id=WATCH_ID, sender_id=WATCH_ID),),
        watch=watch,
    )


def draft_watch(directory: str, environ: Mapping[str, str] = os.environ) -> Draft:
    """
    Build the configuration of `--watch DIR` as something that is still to be checked.

    Raises:
        BadConfig: A port variable is wrong.
    """
    config = build_watch(directory, environ)
    return Draft(
        config=config,
        sources=dict(enumerate(config.sources)),
        senders=dict(enumerate(config.senders)),
        fusion=config.fusion,
    )


def read_again(config: Config, environ: Mapping[str, str] = os.environ) -> Draft:
    """
    Read the configuration again from where it came from.

    Raises:
        BadConfig: It cannot be read, or is not YAML.
    """
    if config.file is not None:
        return read(Path(config.file), environ)
    return draft_watch(config.watch or "", environ)


def load_again(config: Config, environ: Mapping[str, str] = os.environ) -> Config:
    """
    Read the configuration again from where it came from, without asking its drivers.

    Raises:
        BadConfig: What stands there now is wrong.
    """
    return read_again(config, environ).finish()


def _check_two_ports(
    console: ConsoleConfig, fusion: FusionConfig, file: str | None, lines: Mapping[KeyPath, int]
) -> Iterator[Problem]:
    if console.port and console.port == fusion.port:
        reason = f"console and fusion both have port {console.port}"
        line = lines.get(("fusion", "port"), lines.get(("console", "port")))
        yield Problem(file or "environment", line, "fusion.port", str(fusion.port), reason, "change one")


def _read_environment(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, lowest in ((CONSOLE_PORT_VARIABLE, 0), (FUSION_PORT_VARIABLE, 1)):
        text = environ.get(name, "").strip()
        if not text:
            continue
        # The length first: Python refuses to read a number of thousands of digits.
        if text.isascii() and text.isdigit() and len(text) <= _LONGEST_PORT and lowest <= int(text) <= _HIGHEST_PORT:
            found[name] = int(text)
        else:
            remedy = f"use a number from {lowest} to {_HIGHEST_PORT}, or unset it"
            problems.append(Problem("environment", None, name, show((), text), "it is not a port", remedy))
    return found


def _find_contradictions(value: Any, misfits: Sequence[Finding]) -> Iterator[Finding]:
    """Find what each part allows and the whole does not, in all entries that fit."""
    # An entry that does not fit is there all the same, and has its id.
    ids = {group: list_ids(value, group) for group in ("sources", "senders", "pipes")}
    for group, names in ids.items():
        yield from check_ids(group, names)
    for place, source in _take_fitting(value, "sources", SourceConfig, misfits).items():
        uri = source.config.get("uri")
        if isinstance(uri, str) and not uri.startswith("/") and not _SCHEME.match(uri):
            remedy = "write the absolute path, beginning with /"
            yield Finding(("sources", place, "config", "uri"), uri, "it is a relative path", remedy)
    # A whole section that does not fit may hold any id.
    unreadable = {one.path[0] for one in misfits if len(one.path) == 1}
    for place, pipe in _take_fitting(value, "pipes", PipeConfig, misfits).items():
        for kind, name in (("source", pipe.source_id), ("sender", pipe.sender_id)):
            known = ids[f"{kind}s"].values()
            if name not in known and f"{kind}s" not in unreadable:
                remedy = f"use one of: {', '.join(known)}" if known else f"add it below {kind}s"
                yield Finding(("pipes", place, f"{kind}_id"), name, f"there is no {kind} with this id", remedy)


def _take_fitting(value: Any, group: str, kind: type[Entry], misfits: Sequence[Finding]) -> dict[int, Entry]:
    """Return the entries of a list that fit, by their place."""
    wrong = {one.path[:2] for one in misfits}
    entries = value.get(group) if isinstance(value, dict) else None
    if not isinstance(entries, list) or (group,) in wrong:
        return {}
    return {
        place: msgspec.convert(entry, kind) for place, entry in enumerate(entries) if (group, place) not in wrong
    }


def _take_for_drivers(value: Any, group: str, kind: Callable[..., Entry]) -> dict[int, Entry]:
    """Return the entries that can be shown to their drivers, by their place, whatever else is wrong with them."""
    entries = value.get(group) if isinstance(value, dict) else None
    found: dict[int, Entry] = {}
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            continue
        config = entry.get("config", {})
        if isinstance(config, dict) and all(isinstance(key, str) for key in config):
            found[place] = kind(id=str(entry.get("id")), type=entry["type"], config=config)
    return found


def _take_section(value: Any, name: str, kind: type[Entry], misfits: Sequence[Finding]) -> Entry:
    """Return a section if it fits, else its defaults."""
    found = value.get(name, {}) if isinstance(value, dict) else {}
    return kind() if any(one.path[:1] == (name,) for one in misfits) else msgspec.convert(found, kind)


def _override(section: Listening, port: int | None) -> Listening:
    return section if port is None else msgspec.structs.replace(section, port=port)


def _list_entries(
    sources: Mapping[int, SourceConfig], senders: Mapping[int, SenderConfig]
) -> list[tuple[KeyPath, SourceConfig | SenderConfig]]:
    return [
        *((("sources", place), source) for place, source in sources.items()),
        *((("senders", place), sender) for place, sender in senders.items()),
    ]
