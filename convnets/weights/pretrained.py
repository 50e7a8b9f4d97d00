"""Pretrained models by name, for their own classes and channels or for others."""

from typing import NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ..errors import UserError, unknown
from ..models import (
    Classifier,
    create_model,
    default_image_shape,
    reset_head,
    resolve_name,
)
from .files import read_state_dict
from .hub import fetch
from .importing import import_torch
from .libraries import names_of
from .naming import first_convolution, name_layer
from .preprocessing import Preprocessing, describe_preprocessing, imagenet_classes
from .releases import HALF, Release, find_release

ADAPTIONS = ("sum", "repeat")
SYMMETRIC = {"googlenet", "inception_v3"}  # torchvision's: trained on images from -1 to 1


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
    **options,
) -> Pretrained:
    """A pretrained model.

    Args:
      name: one of `list_pretrained()`, or a model's name alone, which means the plainest training
        of it, `resnet50.tv_in1k` for one. With `file` any of `convnets.list_models()`.
      file: a weight file of PyTorch or safetensors to read instead of the hub's; nothing is
        fetched then. The preprocessing is that of the name in timm, or with torchvision's names
        that of most of its models (GoogLeNet and Inception v3: images from -1 to 1, which those
        there make themselves of others), and is not checked.
      source: whose names the file has, timm or torchvision. The hub's are timm's.
      num_classes: outputs. None for those of the weights; with another number a fresh head, the
        same every time, takes the place of theirs (`reset_head`); 0 for no head.
      in_channels: channels of an image. Where they are not 3, `adapt_input` makes the first
        kernel for them, and their mean and deviation are the averages of the three.
      adapt: `sum` or `repeat`, for `adapt_input`.
      cache_dir: folder for what is fetched, instead of the hub's own.
      options: as in `create_model`: `dtype`, `drop_path`, `checkpoint`, …

    Returns: `(model, variables, preprocessing)`: variables of NumPy arrays, `{"params": …,
    "batch_stats": …}`, and what `preprocess` makes of an image file for the model.

    Raises: UserError for unknown names, without network, and for files that are damaged or do not
    fit the model.
    """
    if adapt not in ADAPTIONS:
        raise unknown("adaption", adapt, ADAPTIONS)
    if file is None:
        release = find_release(name)
        create_model(release.model, num_classes, **options)  # what cannot be made is not fetched
        path, config = fetch(release.repository, cache_dir)
        preprocessing, source = describe_preprocessing(config), "timm"
    else:
        release, path = _release_of_file(name, source), file
        preprocessing = release.preprocessing
    state_dict = read_state_dict(path)
    own_classes = count_classes(release.model, state_dict, source)
    if num_classes is None:
        num_classes = own_classes
    drop_head = num_classes == 0
    classes = None if drop_head else own_classes
    variables = import_torch(
        release.model, state_dict, source, num_classes=classes, drop_head=drop_head, **options
    )
    variables = _adapt_channels(variables, in_channels, adapt)
    if num_classes != own_classes:  # nobody knows the names of other classes
        preprocessing = preprocessing._replace(class_names=None)
        variables = variables if drop_head else reset_head(variables, num_classes)
    model = create_model(release.model, num_classes, **options)
    return Pretrained(model, variables, _suit(preprocessing, num_classes, in_channels))


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


def count_classes(name: str, state_dict, source: str) -> int | None:
    """Outputs of the head in a model's state dict; None where there is no head.

    >>> count_classes("mobilenet_v3_small", {"classifier.3.bias": np.ones(5)}, "torchvision")
    5
    """
    head = name_layer("head", ["head"], names_of(name, source))
    bias = state_dict.get(f"{head}.bias")
    return None if bias is None else bias.size


def _release_of_file(name: str, source: str) -> Release:
    """The release of a name in timm, or one without a repository for other files."""
    if source == "timm":
        try:
            return find_release(name)
        except UserError:
            pass
    side = default_image_shape(name)[0]  # raises for names that no model has
    half = {"mean": HALF, "std": HALF} if resolve_name(name) in SYMMETRIC else {}
    wanted = Preprocessing(side, class_names=imagenet_classes(), **half)
    return Release(resolve_name(name), None, wanted)


def _adapt_channels(variables, in_channels, adapt):
    """Variables for images of as many channels: another first kernel."""
    flat = flatten_dict(variables, sep="/")
    path = first_convolution(flat)
    flat[path] = adapt_input(flat[path], in_channels, adapt)
    return unflatten_dict(flat, sep="/")


def _suit(preprocessing, num_classes, in_channels):
    """The preprocessing for other classes, whose names nobody knows, and other channels."""
    names = preprocessing.class_names
    if names is not None and len(names) != num_classes:
        preprocessing = preprocessing._replace(class_names=None)
    if in_channels == 3:
        return preprocessing
    mean, std = ((float(np.mean(values)),) * in_channels for values in preprocessing.normalization)
    return preprocessing._replace(mean=mean, std=std)
