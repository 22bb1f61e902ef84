# Written by tools/stubs.py from __init__.py: change the names there and run `make generated`.
from outspoken.synth.dedup.search import near_duplicates as near_duplicates
from outspoken.synth.pipeline import Pipeline as Pipeline
from outspoken.synth.pipeline import PipelineSummary as PipelineSummary
from outspoken.synth.pipeline import synthesize as synthesize
from outspoken.synth.spec import PipelineSpec as PipelineSpec
from outspoken.synth.spec import load as load
