"""The steps of a pipeline, a module each, and what they share.

`table` lists the steps, `base` says what a step gets and returns, `record_filter` is the loop of those that keep
and remove records, `batch_requests` asks models. This package may import everything in `outspoken.synth` except
the spec, the pipeline and the report. A new step is a module here, a row in `table`, and a paragraph in
docs/synth.md.
"""
