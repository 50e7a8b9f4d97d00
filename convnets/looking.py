"""What a run looks at on its way: an evaluation, and what follows from it."""

import math

from . import parallel
from .errors import NotFiniteError
from .plans import Plan
from .training import reporting
from .training.recording import Record
from .training.state import TrainState


def look(
    plan: Plan,
    number: int,
    state: TrainState,
    record: Record,
    bar,
    progress: bool,
    *,
    due: bool = False,
    **beside,
) -> tuple[TrainState, dict, bool]:
    """Evaluates the state after a step, and writes a line about it.

    Args:
      bar: of the run, beside which the line is shown.
      progress: whether it is also said aloud.
      due: whether a checkpoint of the step is due in any case.
      beside: what else the line is to say.

    Returns: the state, its statistics recomputed where they are to be; the line; whether the state
    is to be saved: where it is due, the best so far or the last. One whose loss is not a number is
    not.

    Raises: NotFiniteError where the loss of the last state is not a number.
    """
    state = plan.recompute(state)
    measured = plan.evaluate(state)
    # To go on alike, whatever rounds.
    measured = parallel.first_decides(lambda: measured, f"the evaluation after step {number}")
    due |= record.is_best(measured) or record.stopped is not None
    early = {"stopped": record.stopped} if record.stopped and number < plan.stop else {}
    line = record.write(number, plan.epoch(number), measured | early | beside)
    reporting.show(bar, line, aloud=progress)
    lost = [name for name in ("test", "validation") if math.isnan(line.get(f"{name}_loss", 0))]
    if lost and (number == plan.stop or record.stopped):
        raise NotFiniteError(f"the {lost[0]} loss after step {number} is nan")
    return state, line, due and not lost
