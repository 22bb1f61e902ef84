# Written by tools/stubs.py from __init__.py: change the names there and run `make generated`.
from outspoken.experiment.api import arun as arun
from outspoken.experiment.api import run as run
from outspoken.experiment.results import ExperimentResults as ExperimentResults
from outspoken.experiment.spec import Arm as Arm
from outspoken.experiment.spec import ExperimentSpec as ExperimentSpec
from outspoken.experiment.spec import load as load
from outspoken.experiment.spec import names as names
