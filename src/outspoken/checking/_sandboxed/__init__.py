"""The inside of the sandbox: `server` starts programs, `child` and `program` run one, `walls` closes it off.

These modules run in a bare Python without the package and its dependencies: they import the standard library and
each other only. What a program may do is decided in `walls`; a new restriction goes there.
"""
