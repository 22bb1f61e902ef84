"""The report of a pipeline, report.json and report.html.

`builder` measures a pipeline's folder and returns the `document`; `html_page` draws it with `text` and `charts`.
This package may import the manifests and records of `outspoken.synth`, but no step except `steps.base`,
and the rooms below. A new section is a type in `document`, a measurement for `builder`, and a part of
page/report.html.
"""
