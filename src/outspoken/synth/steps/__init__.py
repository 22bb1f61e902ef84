"""The steps of a pipeline, a module each, and what they share.

`base` says what a step gets and returns and has the loop of those that remove records, `batch_requests` asks
models. This package may import everything in `outspoken.synth` except the spec, the pipeline and the report. A new
step is a module here with a class of options and a function `run`, a row in `STEPS` of `outspoken.synth.spec`, and
a paragraph in docs/synth.md.
"""
