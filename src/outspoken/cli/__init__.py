"""The command line: a file per command, no logic of its own."""

from outspoken.cli.app import main

__all__ = ["main"]
