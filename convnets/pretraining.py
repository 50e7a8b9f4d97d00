"""The recipe of deep learning before 2012: features learned without labels, layer by layer, then a
classifier on top of them, then all of it together."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from . import data
from .describing import describe
from .errors import UserError, unknown
from .fitting import Result, fit
from .objective import OF_CLASSIFICATION
from .ops import image
from .training.checkpoints import Checkpoints
from .training.flattening import hash_array, hash_json
from .unsupervised import (
    encoder_layer,
    fill_layer,
    fold_whitening,
    standardize_units,
    whiten_patches,
)

MODES = ("features", "stack", "classifier", "fine_tune")
OF_A_RUN = ("config.json", "metrics.jsonl", "checkpoints", "config.json.tmp")
OF_BATCH_NORM = ("batch_norm_group", "recompute_statistics")  # of one that is not held


class PretrainingStage(NamedTuple):
    """What a layer of a backbone learns before it has seen a label.

    Attributes:
      learner: what learns in its place: an auto-encoder, a Boltzmann machine, a sparse coder,
        k-means.
      objective: `(learner, *, normalization) -> loss function`, as `fit` takes it.
      layer: the path of the layer in the backbone's parameters, as `dense1`.
      below: the endpoint whose values the learner sees in the place of images; None for the images,
        normalized as the data set says.
      patch: height and width of patches of these, for learners of vectors that are to be filters of
        a convolution; None for the whole.
      patches: how many of each image.
      whiten: None, or the epsilon with which patches are whitened, those that show something, each
        at the same contrast, as by `unsupervised.whiten_patches`; the whitening then becomes a part
        of the layer.
      standardize: number of images over which each unit of the layer, once it is filled, is brought
        to mean 0 and deviation 1, before the next stage; 0: it is left as it was learned.
      options: of `fit`, for this stage alone.
      convert: `(learner, variables) -> {"kernel": …, "bias": …}` of the layer.
    """

    learner: nn.Module
    objective: Callable
    layer: str
    below: str | None = None
    patch: int | None = None
    patches: int = 1
    whiten: float | None = None
    standardize: int = 0
    options: dict | None = None
    convert: Callable = encoder_layer


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
        Refused for a training that had another stage, or began from other variables.
      progress: whether to print.
      options: of `fit`, for all trainings; those of classification alone, such as
        `label_smoothing`, for the last two, those of batch norm's statistics for the last.

    Returns: `Pretrained`.

    Raises: UserError for an unknown mode, no stage, a model without a backbone, endpoints and
    layers that it does not have, what was learned of another shape than the layer, and all that
    `fit` raises.

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
    _require(model, stages, mode, variables)
    if variables is None:
        key, images = jax.random.key(seed), jnp.zeros((1, *dataset.image_shape))
        variables = jax.jit(model.init, static_argnames="train")(key, images, train=False)
    results = {}
    held = {name: x for name, x in options.items() if name not in OF_BATCH_NORM}
    unlabeled = {name: x for name, x in held.items() if name not in OF_CLASSIFICATION}

    def train(name, learner, dataset, own, stage=None, **given):
        place = _place(workdir, name, resume)
        if workdir is not None:
            given["identity"] = _identity(stage, dataset, variables)
        if place["resume"]:
            given.pop("variables", None)  # they are in its checkpoint
        own = {"seed": seed, "progress": progress, **own, **place, **given}
        if progress:
            print(f"{name}: {type(learner).__name__}")
        results[name] = fit(learner, dataset, **own)
        return results[name].signal is None, results[name].state.variables()

    for number, stage in enumerate(stages[:1] if mode == "features" else stages, 1):
        seen, whitening = _what_it_sees(model, variables, dataset, stage, seed)
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
            images = _first_images(dataset, stage.standardize)
            variables = standardize_units(model, variables, path, images)
    labeled = dataset if labeled is None else labeled
    if mode in MODES[2:]:
        own = {**held, **(classifier or {}), "freeze": "backbone/*"}
        if variables.get("batch_stats"):
            own["freeze_batch_norm"] = True
        whole, variables = train("classifier", model, labeled, own, variables=variables)
        if not whole:
            return Pretrained(variables, results, model)
    if mode == "fine_tune":
        own = {**options, **(fine_tuning or {})}
        _, variables = train("fine_tuning", model, labeled, own, variables=variables)
    return Pretrained(variables, results, model)


def _first_images(dataset: data.Dataset, count: int):
    """The first images of the training split, normalized, `[count, H, W, C]`."""
    indices = np.arange(min(count, len(dataset.train)))
    return image.prepare(dataset.train.batch(indices)["image"], dataset.normalization)


def _what_it_sees(model, variables, dataset, stage, seed):
    """The data of a stage: images, or what the layers below make of them; or patches of these; and
    their whitening, where they are whitened."""
    seen = dataset
    if stage.below is not None:
        seen = data.map_images(dataset, _layers_below(model, variables, dataset, stage.below))
    if stage.patch is not None:
        seen = data.sample_patches(seen, stage.patch, stage.patches, seed=seed)
    return (seen, None) if stage.whiten is None else whiten_patches(seen, stage.whiten)


def _layers_below(model, variables, dataset, endpoint):
    """From uint8 images to the values of an endpoint of the backbone as it is now."""
    inner = {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}

    def encode(inner, images):
        images = image.prepare(images, dataset.normalization)
        endpoints = model.backbone.apply(inner, images, train=False)
        if endpoint not in endpoints:
            raise unknown("endpoint", endpoint, endpoints)
        return endpoints[endpoint]

    return partial(jax.jit(encode), inner)


def _identity(stage, dataset, variables):
    """What a training is resumed with only as it was: what learns, from what, from where on."""
    leaves = {
        jax.tree_util.keystr(path): hash_array(np.asarray(leaf))
        for path, leaf in jax.tree.leaves_with_path(variables)
    }
    recipe = None if stage is None else describe(stage._replace(options=None))
    seen = describe(dataset.normalization)
    return {"recipe": recipe, "normalization": seen, "begins_from": hash_json(leaves)}


def _place(workdir, name, resume):
    """The folder of one training, and whether there is something in it to go on with."""
    if workdir is None:
        return {"workdir": None, "resume": False}
    folder = Path(workdir) / name
    if resume and (folder / "config.json").exists():
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            if checkpoints.steps():
                return {"workdir": str(folder), "resume": True}
        strange = {path.name for path in folder.iterdir()} - set(OF_A_RUN)
        if strange:
            raise UserError(f"{folder} holds {min(strange)}, which no training wrote: name another")
        shutil.rmtree(folder)  # it broke off before its first checkpoint: it starts anew
    return {"workdir": str(folder), "resume": False}


def _require(model, stages, mode, variables):
    if isinstance(stages, PretrainingStage):
        raise UserError("stages are a list: put the one stage into brackets")
    for stage in stages:
        white = stage.whiten
        if white is not None and not (isinstance(white, int | float) and white >= 0):
            raise UserError(f"whiten is an epsilon, 0 or more, or None, came {white!r}")
        if not isinstance(stage.standardize, int) or stage.standardize < 0:
            raise UserError(
                f"standardize is a number of images, 0 for none, came {stage.standardize!r}"
            )
    if variables is not None and "params" not in variables:
        raise UserError('variables are {"params": …}, and "batch_stats" where the model has them')
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if not stages and variables is None:
        raise UserError("give at least one stage that learns without labels")
    if not isinstance(getattr(model, "backbone", None), nn.Module):
        raise UserError(
            f"{type(model).__name__} has no backbone: create_model and models.Classifier make one"
        )
