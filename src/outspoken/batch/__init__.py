"""Many prompts at once: in memory (`memory`), from file to file (`file`), over a Ray cluster (`ray`).

`plan` has what a run asks and the engine that all of them share; `sources` reads prompts, `partition_writer` and
`output` write responses. The room imports the engine, models, the ledger and `outspoken.io`. A new format of
prompts belongs in `source_formats`, a new format of responses in `output_formats`, a setting in `settings`.
"""
