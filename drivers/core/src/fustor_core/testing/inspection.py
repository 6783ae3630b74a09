"""Look at a driver's class without running it."""

import inspect

import msgspec

from fustor_core.drivers import PusherDriver, SourceDriver


def inspect_pusher(driver: type) -> list[str]:
    """
    Compare a pusher's class with the contract.

    Returns:
        One line for each thing that is wrong; empty when all is well.
    """
    return _inspect(driver, PusherDriver)


def inspect_source(driver: type) -> list[str]:
    """
    Compare a source's class with the contract.

    Returns:
        One line for each thing that is wrong; empty when all is well.
    """
    problems = _inspect(driver, SourceDriver)
    if not problems and not (isinstance(getattr(driver, "schema", None), str) and driver.schema):  # type: ignore[attr-defined]  # checked by the getattr before it
        problems.append(f'{driver.__qualname__}.schema is not a name; set it to the row type, for example "fs"')
    return problems


def _inspect(driver: type, contract: type) -> list[str]:
    name = getattr(driver, "__qualname__", repr(driver))
    if not (isinstance(driver, type) and issubclass(driver, contract)):
        return [f"{name} is not a subclass of fustor_core.drivers.{contract.__name__}; derive it from that"]
    missing: frozenset[str] = getattr(driver, "__abstractmethods__", frozenset())
    problems = [f"{name}.{method} is not implemented; the contract demands it" for method in sorted(missing)]
    config = getattr(driver, "Config", None)
    if not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
        problems.append(f"{name}.Config is not a msgspec.Struct; describe the driver's configuration in one")
    for method, expected in inspect.getmembers(contract, inspect.isfunction):
        problems += _compare(name, method, expected, getattr(driver, method))
    return problems


def _compare(name: str, method: str, expected: object, actual: object) -> list[str]:
    """Say which parameters of the contract a method does not take."""
    if method.startswith("_") or not (inspect.isfunction(expected) and inspect.isfunction(actual)):
        return []
    parameters = inspect.signature(actual).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return []
    wanted = inspect.signature(expected).parameters
    return [f"{name}.{method} does not take {one}; the worker passes it" for one in wanted if one not in parameters]
