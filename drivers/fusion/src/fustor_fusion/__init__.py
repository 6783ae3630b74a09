"""
Fusion: arbitrates between agents and serves one consistent view.

`fustor_fusion.server.FusionServer` is not imported here: it brings the web stack along,
and the keys and the configuration are needed before the fork.
"""

from fustor_fusion.config import FusionConfig
from fustor_fusion.keys import load_or_create_keys

__version__ = "1.0.0"

__all__ = ["FusionConfig", "load_or_create_keys"]
