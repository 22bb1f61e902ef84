"""The inside of the sandbox: `server` forks a child for each program, `walls` closes it off, `program` runs in it.

These modules run in a bare Python without the package and its dependencies: they import only the standard library
and each other. `walls` decides what a program may do; a new restriction goes there.
"""
