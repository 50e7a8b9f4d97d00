"""Do two runs of one seed end the same?"""

import contextlib
import itertools

import jax
import numpy as np

from .. import parallel
from ..planning import make_plan
from ..training.loop import advance
from .finding import Finding, judge
from .trial import short_options

STEPS = 3


def check_reproduce(model, dataset, *, trial_steps: int = STEPS, **options) -> Finding:
    """Runs a few steps twice, everything made anew, and compares the states bit for bit.

    Args:
      model, dataset, options: as in `fit`.
      trial_steps: of each run.
    """
    one, other = (_run(model, dataset, trial_steps, options) for _ in range(2))
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    apart = max(float(np.abs(a - b).max()) for a, b in pairs if np.size(a))
    differ = sum(a.tobytes() != b.tobytes() for a, b in pairs)
    found = f"{differ} of {len(pairs)} arrays differ after {trial_steps} steps of one seed"
    return Finding(
        "reproduce",
        "",
        judge(differ > 0),
        apart,
        "largest difference",
        found if differ else f"two runs of {trial_steps} steps of one seed are equal to the bit",
        "Draw at random from JAX's keys alone, not from NumPy or Python in the model, the loss or "
        "the augmentation; on a GPU set XLA's deterministic operations.",
    )


def _run(model, dataset, steps, options):
    jax.clear_caches()  # what was drawn while tracing is drawn again
    plan = make_plan(model, dataset, short_options(steps, **options))
    with contextlib.closing(plan.batches(0)) as batches:
        taken = itertools.islice(batches, steps)
        *_, (_, state, _) = advance(plan.step, plan.create_state(), taken, stop=steps)
    state = parallel.gather(state)
    return jax.tree.map(np.asarray, (state.params, state.batch_stats))
