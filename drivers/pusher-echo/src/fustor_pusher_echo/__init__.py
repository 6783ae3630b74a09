"""Writes events as JSON lines."""

from fustor_pusher_echo.config import EchoConfig
from fustor_pusher_echo.driver import EchoPusher

__version__ = "1.0.0"

__all__ = ["EchoConfig", "EchoPusher"]
