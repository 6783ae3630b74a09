"""Pushes events to a Fusion service."""

from fustor_pusher_fusion.config import FusionConfig, KeySource
from fustor_pusher_fusion.driver import FusionPusher

__version__ = "1.0.0"

__all__ = ["FusionConfig", "FusionPusher", "KeySource"]
