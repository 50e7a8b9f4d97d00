"""Our networks as PyTorch modules; the only file that imports PyTorch."""

import functools
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
from flax.traverse_util import flatten_dict

from ..errors import UserError
from .networks import Layer, describe_network
from .workloads import Workload

INSTALL = "pip install torch==2.13.0"


@functools.cache
def import_torch():
    """The package `torch`. Raises UserError without it, with the command that installs it."""
    try:
        import torch
    except ImportError:
        raise UserError(f"PyTorch is not installed: {INSTALL}") from None
    return torch


def build_network(workload: Workload, variables: dict):
    """The network as a `torch.nn.Sequential` on `[B, C, H, W]`, with our variables in it."""
    values = defaultdict(dict)
    for collection in variables.values():
        for path, value in flatten_dict(collection).items():
            values["/".join(path[:-1])][path[-1]] = value
    return _sequence(describe_network(workload), values)


def _sequence(layers: list[Layer], values: dict):
    nn, own, lenets = import_torch().nn, _own_modules(), _lenets_modules()
    simple = {
        "flatten": nn.Flatten,
        "relu": functools.partial(nn.ReLU, inplace=True),
        "scaled_tanh": own.ScaledTanh,
        "mean": own.Mean,
        "max_pool": lambda window, stride, padding: nn.MaxPool2d(window, stride, padding),
        "bins": lambda size: nn.AdaptiveAvgPool2d(size),
        "dropout": lambda rate: nn.Dropout(rate),
        "pad": own.Pad,
        "residual": lambda body, shortcut: own.Residual(
            _sequence(body, values), _sequence(shortcut, values)
        ),
    }
    with_values = {
        "conv": _conv,
        "partial_conv": lenets.PartialConv,
        "norm": _norm,
        "dense": _dense,
        "subsample": lenets.Subsample,
    }
    modules = [
        with_values[kind](values[path], **settings) if path else simple[kind](**settings)
        for kind, path, settings in layers
    ]
    return nn.Sequential(*modules)


def _conv(values, stride, padding):
    height, width, channels, features = values["kernel"].shape
    bias = "bias" in values
    module = import_torch().nn.Conv2d(
        channels, features, (height, width), stride, padding, bias=bias
    )
    return _fill(module, weight=values["kernel"].transpose(3, 2, 0, 1), bias=values.get("bias"))


def _dense(values, flattened):
    kernel = values["kernel"]
    if flattened is not None:  # PyTorch's rows count channels slowest, ours fastest
        pixels = kernel.reshape(-1, flattened, kernel.shape[1])
        kernel = pixels.transpose(1, 0, 2).reshape(kernel.shape)
    return _fill(import_torch().nn.Linear(*kernel.shape), weight=kernel.T, bias=values["bias"])


def _norm(values):
    return _fill(
        import_torch().nn.BatchNorm2d(len(values["scale"]), eps=1e-5, momentum=0.1),
        weight=values["scale"],
        bias=values["bias"],
        running_mean=values["mean"],
        running_var=values["var"],
    )


def _fill(module, **values):
    with import_torch().no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(module, name).copy_(_tensor(value))
    return module


def _tensor(value):
    return import_torch().from_numpy(np.array(value))


@functools.cache
def _own_modules() -> SimpleNamespace:
    """What PyTorch has no module for."""
    torch = import_torch()
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self, body, shortcut):
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    class Pad(nn.Module):
        def __init__(self, stride, features):
            super().__init__()
            self.stride, self.features = stride, features

        def forward(self, x):
            x = x[:, :, :: self.stride, :: self.stride]
            return nn.functional.pad(x, (0, 0, 0, 0, 0, self.features - x.shape[1]))

    class ScaledTanh(nn.Module):
        def forward(self, x):
            return 1.7159 * torch.tanh(2 / 3 * x)

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    return SimpleNamespace(Residual=Residual, Pad=Pad, ScaledTanh=ScaledTanh, Mean=Mean)


@functools.cache
def _lenets_modules() -> SimpleNamespace:
    """Subsampling with parameters, and a convolution with a table of connections."""
    torch = import_torch()
    nn = torch.nn

    class Subsample(nn.Module):
        def __init__(self, values):
            super().__init__()
            self.coefficient = nn.Parameter(_tensor(values["coefficient"]))
            self.bias = nn.Parameter(_tensor(values["bias"]))

        def forward(self, x):
            sums = 4 * nn.functional.avg_pool2d(x, 2)
            return self.coefficient.reshape(-1, 1, 1) * sums + self.bias.reshape(-1, 1, 1)

    class PartialConv(nn.Module):
        def __init__(self, values, connections, channels):
            super().__init__()
            self.kernel = nn.Parameter(_tensor(values["kernel"].transpose(2, 0, 1)))
            self.bias = nn.Parameter(_tensor(values["bias"]))
            self.shape = (len(connections), channels, *self.kernel.shape[1:])
            inputs = [channel for seen in connections for channel in seen]
            outputs = [number for number, seen in enumerate(connections) for _ in seen]
            self.register_buffer("outputs", torch.tensor(outputs))
            self.register_buffer("inputs", torch.tensor(inputs))

        def forward(self, x):
            places = (self.outputs, self.inputs)
            weight = self.kernel.new_zeros(self.shape).index_put(places, self.kernel)
            return nn.functional.conv2d(x, weight, self.bias)

    return SimpleNamespace(Subsample=Subsample, PartialConv=PartialConv)
