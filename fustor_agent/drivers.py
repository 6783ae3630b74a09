"""Find installed drivers through their entry points, and load one, saying exactly what is wrong with a bad one."""

import enum
import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

import msgspec

from fustor_core.drivers import PUSHERS_GROUP, SOURCES_GROUP, PusherDriver, SourceDriver
from fustor_core.errors import ConfigError, DriverError

Driver = TypeVar("Driver", SourceDriver, PusherDriver)


class DriverKind(enum.Enum):
    """What a driver is for."""

    SOURCE = "source"
    PUSHER = "pusher"


_GROUPS = {DriverKind.SOURCE: SOURCES_GROUP, DriverKind.PUSHER: PUSHERS_GROUP}


class DriverInfo(msgspec.Struct, frozen=True):
    """
    One installed driver, without importing it.

    Args:
        kind: What it is for.
        type: What the configuration calls it.
        distribution: The package that brings it.
        version: That package's version.
        target: `module:Class`.
    """

    kind: DriverKind
    type: str
    distribution: str
    version: str
    target: str


def list_drivers() -> list[DriverInfo]:
    """Return all installed drivers, by kind and type; nothing is imported."""
    found = [
        DriverInfo(
            kind=kind,
            type=point.name,
            distribution=point.dist.name if point.dist else "?",
            version=point.dist.version if point.dist else "?",
            target=point.value,
        )
        for kind, group in _GROUPS.items()
        for point in entry_points(group=group)
    ]
    return sorted(found, key=lambda one: (one.kind.value, one.type, one.distribution))


def load_source(type_name: str) -> type[SourceDriver]:
    """
    Import a source driver; only in its worker or in a check's child.

    Raises:
        ConfigError: No such type is installed, or two packages bring it.
        DriverError: It breaks the contract.
    """
    driver = _load(DriverKind.SOURCE, type_name, SourceDriver)  # type: ignore[type-abstract]  # compared with, never called
    if not isinstance(inspect.getattr_static(driver, "schema", None), str):
        raise _broken(DriverKind.SOURCE, type_name, "it does not say the name of its row type in `schema`")
    return driver


def load_pusher(type_name: str) -> type[PusherDriver]:
    """
    Import a pusher driver; only in its worker or in a check's child.

    Raises:
        ConfigError: No such type is installed, or two packages bring it.
        DriverError: It breaks the contract.
    """
    return _load(DriverKind.PUSHER, type_name, PusherDriver)  # type: ignore[type-abstract]  # compared with, never called


def explain_unknown(kind: DriverKind, type_name: str) -> tuple[str, str]:
    """Say why a type cannot be used and what to do: the reason and the remedy."""
    known = sorted({one.type for one in list_drivers() if one.kind is kind})
    names = ", ".join(known) if known else "none"
    return (
        f"no {kind.value} driver of this type is installed",
        f"install the package that brings it, or use one of: {names}",
    )


def _load(kind: DriverKind, type_name: str, base: type[Driver]) -> type[Driver]:
    point = _find(kind, type_name)
    try:
        loaded: object = point.load()
    except AttributeError as err:
        raise _broken(kind, type_name, f"its entry point names {point.value}, which cannot be found ({err})") from err
    except Exception as err:  # A driver is a stranger's code: its import may raise anything.
        raise _broken(kind, type_name, f"importing {point.module} raises {type(err).__name__}: {err}") from err
    if not isinstance(loaded, type) or not issubclass(loaded, base):
        raise _broken(kind, type_name, f"{point.value} is not a subclass of fustor_core.drivers.{base.__name__}")
    missing = sorted(loaded.__abstractmethods__)
    if missing:
        raise _broken(kind, type_name, f"{point.value} lacks {', '.join(missing)}")
    settings = inspect.getattr_static(loaded, "Config", None)
    if not isinstance(settings, type) or not issubclass(settings, msgspec.Struct):
        raise _broken(kind, type_name, f"{point.value} has no `Config` that is a msgspec.Struct")
    return loaded


def _find(kind: DriverKind, type_name: str) -> EntryPoint:
    points = list(entry_points(group=_GROUPS[kind], name=type_name))
    if not points:
        reason, remedy = explain_unknown(kind, type_name)
        raise ConfigError(f'type "{type_name}": {reason}; {remedy}')
    if len({point.value for point in points}) > 1:
        brought = ", ".join(sorted(point.dist.name for point in points if point.dist))
        reason = f'type "{type_name}": several packages bring a {kind.value} driver of this type ({brought})'
        raise ConfigError(f"{reason}; uninstall all but one")
    return points[0]


def _broken(kind: DriverKind, type_name: str, reason: str) -> DriverError:
    found = [one for one in list_drivers() if one.kind is kind and one.type == type_name]
    source = f"{found[0].distribution} {found[0].version}" if found else "an unknown package"
    remedy = "upgrade or uninstall that package, or report it to its authors"
    return DriverError(f'{kind.value} driver "{type_name}" of {source} cannot be used: {reason}; {remedy}')
