"""The agent: command line, configuration, daemon, plan of workers, worker mains, console."""

__version__ = "1.0.0"
