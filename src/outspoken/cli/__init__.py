"""The command line: a file per command, without logic of its own.

`app.py` puts the commands into groups, `options.py` declares the options that several share, `common.py` prints
and turns errors into one line, `interrupts.py` handles Ctrl-C; `streams.py`, `screen.py` and `help.py` deal with
encodings, terminals and narrow ones. The files may import everything, but heavy rooms
only inside functions: `outspoken --help` must start fast. A new command is a file here and a row in `app.py`.
"""

from outspoken.cli.app import main

__all__ = ["main"]
