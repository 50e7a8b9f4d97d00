"""Where does the time of a step go?"""

import math

from ..benchmark.arithmetic import measure_peak
from ..summary import summarize
from .finding import NOT_CHECKED, Finding, judge

WAITING = 0.3  # of the time, for the next batch
LITTLE = 0.001  # of the peak


def check_speed(model, trial) -> list[Finding]:
    """The share of the machine's peak that a trial reached, its wait for data, its first step.

    Training is counted as three passes forward. A share of a few percent is usual for small
    networks and images; no verdict hangs on it, unless it is below a thousandth.

    Args:
      model: as in `fit`.
      trial: from `run_trial`.
    """
    if math.isnan(trial.images_per_second):
        text = f"{len(trial.losses)} steps are too few to time"
        return [Finding("speed", "", NOT_CHECKED, None, "", text)]
    plan = trial.plan
    summary = summarize(model, plan.dataset.image_shape)
    flops = 6 * summary.multiply_adds * trial.images_per_second
    devices = plan.step.mesh.devices.size
    share = flops / (devices * measure_peak(plan.options.precision))
    text = f"{trial.images_per_second:,.0f} images/s, {flops / 1e9:.3g} GFLOP/s"
    text += f"; the first step took {trial.first_step_seconds:.1f} s with its compilation"
    advice = "Take larger batches, bfloat16 on an accelerator, or `convnets benchmark --profile`."
    peak = Finding(
        *("speed", "peak", judge(False, share < LITTLE), 100 * share, "% of peak", text, advice)
    )
    wait = trial.data_wait
    text = "of the time of a step it waits for its images"
    advice = (
        "Read with more workers (--workers), smaller files, or fewer augmentations on the host."
    )
    data = Finding("speed", "data", judge(False, wait > WAITING), 100 * wait, "%", text, advice)
    return [peak, data]
