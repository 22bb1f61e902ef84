# Written by tools/stubs.py from __init__.py: change the names there and run `make generated`.
from outspoken.training.evaluation import evaluate as evaluate
from outspoken.training.evaluation_result import Evaluation as Evaluation
from outspoken.training.fitting import TrainedStudent as TrainedStudent
from outspoken.training.fitting import train as train
from outspoken.training.record import TrainingRecord as TrainingRecord
from outspoken.training.settings import EvalSettings as EvalSettings
from outspoken.training.settings import TrainSettings as TrainSettings
