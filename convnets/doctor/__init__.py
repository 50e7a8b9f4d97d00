"""What keeps a network from learning: checks of data, gradients, rate, …, with a verdict each."""

from .batch_norm import check_batch_norm
from .collapse import check_collapse
from .data import check_data
from .examination import CHECKS, examine
from .finding import VERDICTS, Finding, first_wrong, format_report
from .gradients import check_gradients
from .overfit import check_overfit
from .rate import check_rate
from .reproduce import check_reproduce
from .signals import Signal, find_saturated, measure_signals
from .size import check_size
from .speed import check_speed
from .trial import Trial, run_trial

__all__ = [
    "CHECKS",
    "VERDICTS",
    "Finding",
    "Signal",
    "Trial",
    "check_batch_norm",
    "check_collapse",
    "check_data",
    "check_gradients",
    "check_overfit",
    "check_rate",
    "check_reproduce",
    "check_size",
    "check_speed",
    "examine",
    "find_saturated",
    "first_wrong",
    "format_report",
    "measure_signals",
    "run_trial",
]
