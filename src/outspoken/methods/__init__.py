"""The methods: ways of asking a model for responses.

`table` has a row for each method, `steps` the generators that ask and read. They may import templates, settings,
parsing and the plain values, and do no I/O. A new method is a row in `table`, a wording, and at most one generator
in `steps`; `register` adds one from outside the package.
"""
