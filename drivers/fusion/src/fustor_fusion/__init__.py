"""Fusion: arbitrates between agents and serves one consistent view."""

from fustor_fusion.config import FusionConfig
from fustor_fusion.keys import load_or_create_keys
from fustor_fusion.server import FusionServer

__version__ = "1.0.0"

__all__ = ["FusionConfig", "FusionServer", "load_or_create_keys"]
