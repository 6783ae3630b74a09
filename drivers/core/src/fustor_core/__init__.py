"""The driver contract of Fustor."""

__version__ = "1.0.0"
