"""Pretrained models by name, for their own classes and channels or for others."""

import re
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ..errors import UserError, unknown
from ..models import Classifier, create_model, default_image_shape
from .files import read_state_dict
from .hub import fetch
from .preprocessing import Preprocessing, describe_preprocessing, imagenet_classes
from .releases import Release, find_release

ADAPTIONS = ("sum", "repeat")
# The last bias of PyTorch's classifiers; in a sequence its number, the largest, comes second.
HEAD = re.compile(r"(?:fc|last_linear|head|head\.fc|classifier|classifier\.(\d+))\.bias")


class Pretrained(NamedTuple):
    """A model, its weights (`params` and `batch_stats`, NumPy), and what it wants of an image."""

    model: Classifier
    variables: dict
    preprocessing: Preprocessing


def load_pretrained(
    name: str,
    *,
    file=None,
    source: str = "timm",
    num_classes: int | None = None,
    in_channels: int = 3,
    adapt: str = "sum",
    cache_dir=None,
) -> Pretrained:
    """A pretrained model.

    Args:
      name: one of `list_pretrained()`, or a model's name alone. With `file` any of
        `convnets.list_models()`.
      file: a weight file of PyTorch or safetensors to read instead of the hub's; nothing is
        fetched then. The preprocessing is that of the name in timm, or of most of torchvision's
        models, and is not checked.
      source: whose names the file has, timm or torchvision. The hub's are timm's.
      num_classes: outputs. None for those of the weights; with another number the head is left out
        and a fresh one, the same every time, takes its place; 0 for no head.
      in_channels: channels of an image. Where they are not 3, `adapt_input` makes the first
        kernel for them, and their mean and deviation are the averages of the three.
      adapt: `sum` or `repeat`, for `adapt_input`.
      cache_dir: folder for what is fetched, instead of the hub's own.

    Raises: UserError for unknown names, without network, and for files that are damaged or do not
    fit the model.
    """
    if adapt not in ADAPTIONS:
        raise unknown("adaption", adapt, ADAPTIONS)
    if file is None:
        release = find_release(name)
        model = create_model(release.model, num_classes)  # what cannot be made is not fetched
        path, config = fetch(release.repository, cache_dir)
        preprocessing, source = describe_preprocessing(config), "timm"
    else:
        release, path = _release_of_file(name), file
        preprocessing = release.preprocessing
    state_dict = read_state_dict(path)
    weights_classes = count_classes(state_dict)
    if num_classes is None:
        num_classes = weights_classes
    model = create_model(release.model, num_classes)
    drop_head = num_classes != weights_classes
    imported = _import(release.model, state_dict, source, num_classes, drop_head)
    shape = (*default_image_shape(release.model)[:2], in_channels)
    variables = _complete(model, imported, shape, adapt, drop_head)
    return Pretrained(model, variables, _suit(preprocessing, model.num_classes, in_channels))


def adapt_input(kernel: np.ndarray, in_channels: int, how: str) -> np.ndarray:
    """A first kernel for images of other channels than the three it was trained with.

    Args:
      kernel: `[H, W, 3, C]`.
      in_channels: of the images.
      how: `sum`, for one channel: `new[:, :, 0] = kernel[:, :, 0] + kernel[:, :, 1] +
        kernel[:, :, 2]`; a gray image gives what its copy in all three channels gave. `repeat`, for
        any number: `new[:, :, i] = kernel[:, :, i % 3] * 3 / in_channels`; what is as strong in
        every channel stays, in a multiple of three channels, as strong as it was.

    Returns: `[H, W, in_channels, C]`, in the kernel's dtype.

    Raises: UserError for sums that make more than one channel.

    >>> adapt_input(np.ones((1, 1, 3, 1)), 1, "sum").ravel()
    array([3.])
    >>> adapt_input(np.ones((1, 1, 3, 1)), 6, "repeat").ravel()
    array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    """
    if how not in ADAPTIONS:
        raise unknown("adaption", how, ADAPTIONS)
    if in_channels < 1 or kernel.shape[2] != 3:
        raise UserError(
            f"a kernel {list(kernel.shape)} cannot be adapted to {in_channels} channels"
        )
    if in_channels == 3:
        return kernel
    if how == "repeat":
        repeated = kernel[:, :, np.arange(in_channels) % 3].astype(np.float64)
        return (repeated * 3 / in_channels).astype(kernel.dtype)
    if in_channels > 1:
        raise UserError(
            f"adapt='sum' is for images of 1 channel, came {in_channels}; give adapt='repeat'"
        )
    return kernel.sum(axis=2, keepdims=True, dtype=np.float64).astype(kernel.dtype)


def count_classes(state_dict) -> int | None:
    """Outputs of the head in a state dict of timm or torchvision; None where there is no head.

    >>> count_classes({"classifier.0.bias": np.ones(9), "classifier.3.bias": np.ones(5)})
    5
    """
    matches = [match for match in map(HEAD.fullmatch, state_dict) if match]
    if not matches:
        return None
    last = max(matches, key=lambda match: int(match[1] or 0))
    return state_dict[last[0]].size


def _release_of_file(name):
    """The release of a name, or one without a repository for models that none is known of."""
    try:
        return find_release(name)
    except UserError:
        side = default_image_shape(name)[0]  # raises for names that no model has
    return Release(name, None, Preprocessing(side, class_names=imagenet_classes()))


def _import(model, state_dict, source, num_classes, drop_head):
    from .importing import import_torch

    if drop_head:
        return import_torch(model, state_dict, source, drop_head=True)
    own = create_model(model).num_classes
    options = {} if num_classes in (None, own) else {"num_classes": num_classes}
    return import_torch(model, state_dict, source, **options)


def _complete(model, imported, image_shape, adapt, drop_head):
    """Variables of the shapes that a model has, with a fresh head where it was left out."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    init = partial(model.init, train=False)
    expected = flatten_dict(jax.eval_shape(init, jax.random.key(0), images))
    given = flatten_dict(imported)
    fresh = {path for path in expected if drop_head and path[:2] == ("params", "head")}
    wrong = (set(expected) - fresh) ^ set(given)
    if wrong:
        path = min(wrong)
        have = "have no" if path in expected else "have more than the model:"
        raise UserError(f"the weights {have} {'.'.join(path)}")
    arrays = {path: _fit(array, expected[path].shape, path, adapt) for path, array in given.items()}
    if fresh:
        make = jax.jit(lambda key: init(key, jnp.zeros(images.shape))["params"]["head"])
        head = flatten_dict(make(jax.random.key(0)))
        arrays |= {path: np.asarray(head[path[2:]]) for path in fresh}
    return {"batch_stats": {}} | unflatten_dict(arrays)


def _fit(array, shape, path, adapt):
    """Of the shape expected: only the first kernel may differ, in the channels that it reads."""
    if array.shape == shape:
        return array
    if array.ndim == 4 and (*array.shape[:2], shape[2], array.shape[3]) == shape:
        return adapt_input(array, shape[2], adapt)
    raise UserError(
        f"expected {'.'.join(path)} of shape {list(shape)}, the weights have {list(array.shape)}"
    )


def _suit(preprocessing, num_classes, in_channels):
    """The preprocessing for other classes, whose names nobody knows, and other channels."""
    names = preprocessing.class_names
    if names is not None and len(names) != num_classes:
        preprocessing = preprocessing._replace(class_names=None)
    if in_channels == 3:
        return preprocessing
    mean, std = ((float(np.mean(values)),) * in_channels for values in preprocessing.normalization)
    return preprocessing._replace(mean=mean, std=std)
