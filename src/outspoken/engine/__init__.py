"""Drives methods against models."""

from outspoken.engine.drive import drive, drive_stream
from outspoken.engine.loop import iterate, run

__all__ = ["drive", "drive_stream", "iterate", "run"]
