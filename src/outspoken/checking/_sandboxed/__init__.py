"""The inside of the sandbox: `server` starts programs, `child` and `program` run one, `walls` closes it off.

These modules run in a bare Python without the package and its dependencies: they import only the standard library
and each other. `walls` decides what a program may do; a new restriction goes there.
"""
