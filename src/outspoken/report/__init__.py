"""The parts that all HTML reports share: page template, style sheet, charts, sortable tables, and number formats.

Imports `io` and the rooms below it; knows no particular report. The texts, tables and charts of one
report belong to its own room (`experiment`, `theory`, `synth/report`, `training`), number formats to `format.py`.
"""
