"""The stages of pre-training: what each is, what it sees, and whether it fits the network."""

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from . import data
from .errors import UserError, unknown
from .ops import image
from .unsupervised import encoder_layer, fill_layer, whiten_patches
from .unsupervised.conversion import find_layer

MODES = ("features", "stack", "classifier", "fine_tune")


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
      convert: `(learner, variables) -> {"kernel": …, "bias": …}` of the layer; see
        `unsupervised.encoder_layer` for the learners that need none.

    >>> from convnets.unsupervised import KMeans, clustering_loss
    >>> PretrainingStage(KMeans(32), clustering_loss, "conv1", patch=5, whiten=1.0).patch
    5
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


def first_images(dataset: data.Dataset, count: int):
    """The first images of the training split, normalized, `[count, H, W, C]`."""
    indices = np.arange(min(count, len(dataset.train)))
    return image.prepare(dataset.train.batch(indices)["image"], dataset.normalization)


def what_it_sees(model, variables, dataset: data.Dataset, stage: PretrainingStage, seed: int):
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


def require_recipe(model, stages, mode: str, variables, workdir, resume: bool) -> None:
    """Refuses a recipe that is none, whatever the network is.

    Raises: UserError.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if resume and workdir is None:
        raise UserError("resume needs the workdir of the recipe to go on with")
    for stage in stages:
        if not isinstance(stage, PretrainingStage):
            raise UserError(f"stages are a list of PretrainingStage, came {type(stage).__name__}")
        white, scaled = stage.whiten, stage.standardize
        if white is not None and not (_is(white, Real) and 0 <= white < np.inf):
            raise UserError(f"whiten is an epsilon, 0 or more, or None, came {white!r}")
        if not _is(scaled, Integral) or scaled < 0:
            raise UserError(f"standardize is a number of images, 0 for none, came {scaled!r}")
    if variables is not None and "params" not in variables:
        raise UserError('variables are {"params": …}, and "batch_stats" where the model has them')
    if not stages and variables is None:
        raise UserError("give at least one stage that learns without labels")
    if not isinstance(getattr(model, "backbone", None), nn.Module):
        raise UserError(
            f"{type(model).__name__} has no backbone: create_model and models.Classifier make one"
        )


def require_fitting(model, variables, dataset: data.Dataset, stages) -> None:
    """Refuses stages that do not fit the network, by the shapes alone: nothing is trained.

    Raises: UserError that says which stage, for endpoints, patches and layers that are not there,
    and for layers of another shape than what is learned.
    """
    for number, stage in enumerate(stages, 1):
        try:
            seen, _ = what_it_sees(model, variables, dataset, stage._replace(whiten=None), 0)
            jax.eval_shape(partial(_fill, stage, seen.image_shape), variables["params"])
        except UserError as error:
            raise UserError(f"stage {number}: {error}") from None


def _fill(stage, image_shape, params):
    path, images = f"backbone/{stage.layer}", jnp.zeros((1, *image_shape))
    find_layer(params, path)
    learned = stage.learner.init(jax.random.key(0), images, train=False)
    try:
        layer = stage.convert(stage.learner, learned)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        return params  # one of the caller's own that needs the numbers
    return fill_layer(params, path, layer)


def _is(x, kind) -> bool:
    return isinstance(x, kind) and not isinstance(x, bool)
