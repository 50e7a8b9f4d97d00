"""The recipe of deep learning before 2012: features learned without labels, layer by layer, then a
classifier on top of them, then all of it together."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from . import data
from .describing import describe
from .errors import UserError
from .fitting import Result, fit
from .objective import OF_CLASSIFICATION
from .recipe import (
    MODES,
    PretrainingStage,
    first_images,
    require_fitting,
    require_recipe,
    what_it_sees,
)
from .training import journal
from .training.checkpoints import Checkpoints
from .training.flattening import hash_array, hash_json
from .training.options import create_options
from .unsupervised import fill_layer, fold_whitening, standardize_units

TRAININGS = ("classifier", "fine_tuning")  # after the stages
OF_A_RUN = ("config.json", "metrics.jsonl", "checkpoints", "config.json.tmp")
OF_BATCH_NORM = ("batch_norm_group", "recompute_statistics")  # of one that is not held
OF_PATHS = ("freeze", "rate_scales", "layer_decay")  # in the model, which learners do not have
SAMPLE = 16  # images by which a data set is known again


class Pretrained(NamedTuple):
    """What `pretrain` returns.

    Attributes:
      variables: of the model, `{"params": …}` and `batch_stats` where it has them.
      results: of every training, by name: `stage1`, `stage2`, …, `classifier`, `fine_tuning`; each
        as `fit` returns it. Where a signal ended one, as its `signal` says, it is the last.
      model: the model, for which `results["fine_tuning"].state` is.
    """

    variables: dict
    results: dict[str, Result]
    model: nn.Module

    def __repr__(self):
        return f"Pretrained({', '.join(self.results)})"


def pretrain(
    model: nn.Module,
    dataset: data.Dataset,
    stages: Sequence[PretrainingStage],
    mode: str = "fine_tune",
    *,
    labeled: data.Dataset | None = None,
    variables: dict | None = None,
    classifier: dict | None = None,
    fine_tuning: dict | None = None,
    seed: int = 0,
    workdir=None,
    resume: bool = False,
    progress: bool = True,
    **options,
) -> Pretrained:
    """Trains a classifier by the recipe, or by its first parts.

    The modes go one further each:

    - `features`: the first stage learns from images without labels;
    - `stack`: each of the other stages learns from what the stages before it make of images, these
      being held;
    - `classifier`: what is above the backbone learns from labels, the backbone being held, batch
      statistics too;
    - `fine_tune`: all parameters learn from labels, from where they are.

    Args:
      model: a `Classifier`, as `create_model` gives: a backbone and what is on top.
      dataset: of images; its labels are not looked at by the stages.
      stages: from the lowest layer up.
      mode: how far to go.
      labeled: what the classifier and all together learn from; None for `dataset`.
      variables: to begin with in the place of random ones, as those of an earlier `pretrain`, from
        which the recipe then goes on; there need be no stage.
      classifier, fine_tuning: options of `fit` for these two.
      seed: of the initialization of everything, and of the order of data.
      workdir: folder in which every training has one of its own; None: nothing is written.
      resume: go on with what is in workdir: what is finished is read, what broke off goes on.
        Refused for a training that had another stage or other images and labels, or began from
        other variables, and for another length of one from whose end later ones began.
      progress: whether to print.
      options: of `fit`, for all trainings; those of classification alone, such as
        `label_smoothing`, and of parameters by their paths, such as `freeze`, for the last two,
        those of batch norm's statistics for the last.

    Returns: `Pretrained`.

    Raises: UserError, before anything is trained, for an unknown mode, no stage, a model without a
    backbone, endpoints and layers that it does not have, and what a stage learns of another shape
    than its layer; then all that `fit` raises.

    Reference: Hinton, Osindero, Teh 2006, "A fast learning algorithm for deep belief nets"; Bengio,
    Lamblin, Popovici, Larochelle 2006, "Greedy layer-wise training of deep networks"; Ranzato 2012,
    slide "Using unsupervised learning: the recipe".

    >>> import convnets
    >>> from convnets.models import MLP, Classifier
    >>> from convnets.unsupervised import DenseAutoencoder, reconstruction_loss
    >>> model = Classifier(MLP((20,)), num_classes=10)
    >>> stage = PretrainingStage(DenseAutoencoder((20,)), reconstruction_loss, "dense1")
    >>> digits = convnets.load_dataset("digits")
    >>> found = pretrain(model, digits, [stage], "stack", augment="none", steps=2, progress=False)
    >>> found.variables["params"]["backbone"]["dense1"]["kernel"].shape, list(found.results)
    ((784, 20), ['stage1'])
    """
    stages = tuple(stages[:1] if mode == "features" else stages)
    require_recipe(model, stages, mode, variables, workdir, resume)
    if variables is None:
        key, images = jax.random.key(seed), jnp.zeros((1, *dataset.image_shape))
        variables = jax.jit(model.init, static_argnames="train")(key, images, train=False)
    require_fitting(model, variables, dataset, stages)
    results = {}
    held = {name: x for name, x in options.items() if name not in OF_BATCH_NORM}
    unlabeled = {x: held[x] for x in held if x not in (*OF_CLASSIFICATION, *OF_PATHS)}
    names = [*(f"stage{number}" for number in range(1, len(stages) + 1)), *TRAININGS]

    def train(name, learner, seen, own, stage=None, **given):
        own = {"seed": seed, "progress": progress, **own, **given}
        if workdir is not None:
            own["identity"] = _identity(stage, dataset if stage else labeled, variables)
            own |= _place(Path(workdir), name, resume, own, names[names.index(name) + 1 :])
        if progress:
            print(f"{name}: {type(learner).__name__}")
        results[name] = fit(learner, seen, **own)
        return results[name].signal is None, results[name].state.variables()

    labeled = dataset if labeled is None else labeled
    for number, stage in enumerate(stages, 1):
        seen, whitening = what_it_sees(model, variables, dataset, stage, seed)
        own = {**unlabeled, "augment": "none", **(stage.options or {})}
        which = {"stage": stage, "objective": stage.objective}
        whole, learned = train(f"stage{number}", stage.learner, seen, own, **which)
        if not whole:
            return Pretrained(variables, results, model)
        layer = stage.convert(stage.learner, learned)
        if whitening is not None:
            layer = fold_whitening(layer, whitening)
        path = f"backbone/{stage.layer}"
        params = fill_layer(variables["params"], path, layer)
        variables = {**variables, "params": params}
        if stage.standardize:
            images = first_images(dataset, stage.standardize)
            variables = standardize_units(model, variables, path, images)
    if mode in MODES[2:]:
        own = {**held, **(classifier or {})}
        own["freeze"] = ("backbone/*", *_patterns(own.get("freeze")))
        if variables.get("batch_stats"):
            own["freeze_batch_norm"] = True
        whole, variables = train(TRAININGS[0], model, labeled, own, variables=variables)
        if not whole:
            return Pretrained(variables, results, model)
    if mode == "fine_tune":
        own = {**options, **(fine_tuning or {})}
        _, variables = train(TRAININGS[1], model, labeled, own, variables=variables)
    return Pretrained(variables, results, model)


def _identity(stage, dataset, variables):
    """What a training is resumed with only as it was: what learns, from what, from where on."""
    leaves = {
        jax.tree_util.keystr(path): hash_array(np.asarray(leaf))
        for path, leaf in jax.tree.leaves_with_path(variables)
    }
    recipe = {} if stage is None else stage._replace(options=None)._asdict()
    recipe = {name: describe(value) for name, value in recipe.items()}
    count = len(dataset.train)
    sample = dataset.train.batch(np.linspace(0, count - 1, min(count, SAMPLE)).astype(int))
    data = {"count": count, "images": hash_array(sample["image"])}
    if stage is None and dataset.train.labels is not None:
        data["labels"] = hash_array(np.asarray(dataset.train.labels))
    return {
        "recipe": recipe,
        "images": data,
        "normalization": describe(dataset.normalization),
        "begins_from": hash_json(leaves),
    }


def _patterns(freeze):
    return (freeze,) if isinstance(freeze, str) else tuple(freeze or ())


def _place(workdir, name, resume, options, later) -> dict:
    """The options of one training that say where it is, and whether there is something in its
    folder to go on with; that holds the variables too."""
    folder = workdir / name
    if resume and (folder / "config.json").exists():
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            if checkpoints.steps():
                begun = [other for other in later if (workdir / other).exists()]
                if begun:
                    _require_length(folder, begun[0], options)
                return {"workdir": str(folder), "resume": True, "variables": None}
        strange = {path.name for path in folder.iterdir()} - set(OF_A_RUN)
        if strange:
            raise UserError(f"{folder} holds {min(strange)}, which no training wrote: name another")
        with journal.locked(folder):
            shutil.rmtree(folder)  # it broke off before its first checkpoint: it starts anew
    return {"workdir": str(folder), "resume": False}


def _require_length(folder, begun, options):
    """Refuses another length for a training from whose end another one began."""
    saved, of_fit = journal.read_config(folder), ("epochs", "steps")
    given = create_options(**{name: options[name] for name in of_fit if name in options})
    for length in of_fit:
        asked = getattr(given, length)
        if saved[length] != asked:
            raise UserError(
                f"{folder.name} is finished, and {begun} began from its end: it had {length} "
                f"{saved[length]}, and cannot have {asked} now"
            )
