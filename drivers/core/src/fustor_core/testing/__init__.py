"""The conformance kit: what every driver must do, as tests that a driver gets with one call."""

from fustor_core.testing.inspection import inspect_pusher, inspect_source
from fustor_core.testing.pushers import pusher_contract
from fustor_core.testing.sources import SourceRig, source_contract

__all__ = ["SourceRig", "inspect_pusher", "inspect_source", "pusher_contract", "source_contract"]
