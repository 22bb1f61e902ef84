"""Files on the disk: atomic writes, locks, SQLite, free room, TOML files; cut texts, dataclasses as JSON, Ctrl-C.

Imports only the standard library, `outspoken.errors` and `outspoken._imports`; every other room may import it. A
new helper belongs here if two rooms need it and it knows nothing of prompts, models or replies. Code that reads or
writes the format of one room stays in that room.
"""
