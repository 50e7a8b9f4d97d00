"""The same networks as Flax's users write them: its own layers, and `jax.jit` without options."""

import importlib.metadata
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from ..ops import adaptive_average_pool
from ..training.selection import kernels
from .memory import analyzed_bytes
from .networks import Layer, describe_network
from .timing import Contestant
from .workloads import (
    DECAY,
    MOMENTUM,
    RATE,
    Workload,
    compile_cold,
    create_batch,
    create_variables,
    variable_shapes,
)


def start(workload: Workload) -> Contestant:
    """Flax's network ready to run.

    Raises: UserError for a model that has no peer.
    """
    prepare = prepare_training if workload.mode == "train" else prepare_inference
    function, state, *batch = prepare(workload)
    compiled, seconds = compile_cold(function, state, *batch)
    waits = jax.default_backend() == "cpu"  # as for ours

    def train(steps):
        nonlocal state
        for _ in range(steps):
            state, _ = compiled(state, *batch)
        jax.block_until_ready(state)

    def infer(steps):
        logits = None
        for _ in range(steps):
            logits = compiled(state, *batch)
            if waits:
                logits.block_until_ready()
        jax.block_until_ready(logits)

    run = train if workload.mode == "train" else infer
    return Contestant("flax", run, "", seconds, analyzed_bytes(compiled))


def version() -> str:
    """Flax's version."""
    return importlib.metadata.version("flax")


def build_network(workload: Workload) -> nn.Module:
    """The network as a Linen module; its variables are ours under the names of `rename`."""
    shapes = flatten_dict(variable_shapes(workload)["params"], sep="/")
    shapes = {path: leaf.shape for path, leaf in shapes.items()}
    return Network(describe_network(workload), shapes, jnp.dtype(workload.precision))


def rename(variables: dict) -> dict:
    """Our variables as those of `build_network`'s module: a layer's path is its name there."""
    return {
        collection: unflatten_dict(
            {("_".join(path[:-1]), path[-1]): leaf for path, leaf in flatten_dict(tree).items()}
        )
        for collection, tree in variables.items()
    }


def prepare_training(workload: Workload):
    """The jitted step `(state, images, labels) -> (state, loss)`, and its arguments."""
    network, variables = build_network(workload), _place(rename(create_variables(workload)))
    optimizer = optax.chain(
        optax.add_decayed_weights(DECAY, mask=kernels), optax.sgd(RATE, momentum=MOMENTUM)
    )

    def step(state, images, labels):
        params, batch_stats, opt_state, key = state
        key, dropout_key = jax.random.split(key)

        def loss_fn(params):
            logits, updates = network.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updates.get("batch_stats", {})

        (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state, key), loss

    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    state = (params, batch_stats, optimizer.init(params), jax.random.key(0))
    return jax.jit(step, donate_argnums=0), state, *_place(create_batch(workload))


def prepare_inference(workload: Workload):
    """The jitted `(variables, images) -> logits`, and its arguments."""
    network = build_network(workload)
    function = jax.jit(lambda variables, images: network.apply(variables, images, train=False))
    return function, _place(rename(create_variables(workload))), _place(create_batch(workload)[0])


def _place(tree):
    return jax.tree.map(jnp.asarray, tree)


class Network(nn.Module):
    """A list of layers; `shapes` are those of our parameters by their paths."""

    layers: list[Layer]
    shapes: dict[str, tuple[int, ...]]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = x.astype(self.dtype)
        return self._run(self.layers, x, train).astype(jnp.float32)

    def _run(self, layers, x, train):
        for kind, path, settings in layers:
            options = {**settings, "name": path.replace("/", "_"), "dtype": self.dtype}
            if kind == "residual":
                body, shortcut = settings["body"], settings["shortcut"]
                x = self._run(body, x, train) + self._run(shortcut, x, train)
            elif path:
                shape = self.shapes.get(f"{path}/kernel")
                bias = f"{path}/bias" in self.shapes
                x = WITH_PARAMETERS[kind](x, train, shape=shape, use_bias=bias, **options)
            else:
                x = WITHOUT[kind](x, train, **settings)
        return x


def _conv(x, train, *, shape, stride, padding, **options):
    square = (padding, padding)
    strides = (stride, stride)
    return nn.Conv(shape[3], shape[:2], strides, padding=(square, square), **options)(x)


def _dense(x, train, *, shape, flattened, **options):
    return nn.Dense(shape[1], **options)(x)


def _norm(x, train, *, shape, use_bias, **options):
    average = not train
    return nn.BatchNorm(use_running_average=average, momentum=0.9, epsilon=1e-5, **options)(x)


class PartialConv(nn.Module):
    """As `models.PartialConv`, with JAX's own convolution."""

    connections: tuple
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        inputs = [channel for seen in self.connections for channel in seen]
        outputs = [number for number, seen in enumerate(self.connections) for _ in seen]
        kernel = self.param("kernel", nn.initializers.zeros, (5, 5, len(inputs)))
        bias = self.param("bias", nn.initializers.zeros, (len(self.connections),))
        weight = jnp.zeros((5, 5, x.shape[3], len(self.connections)), self.dtype)
        weight = weight.at[:, :, jnp.array(inputs), jnp.array(outputs)].set(
            kernel.astype(self.dtype)
        )
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=layout)
        return x + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class Subsample(nn.Module):
    """As `models.Subsampling`, with Flax's pooling."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        channels = (x.shape[3],)
        coefficient = self.param("coefficient", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        coefficient, bias = (v.astype(self.dtype).reshape(1, 1, 1, -1) for v in (coefficient, bias))
        return coefficient * 4 * nn.avg_pool(x, (2, 2), (2, 2)) + bias


def _partial_conv(x, train, *, shape, use_bias, channels, **options):
    return PartialConv(**options)(x)


def _subsample(x, train, *, shape, use_bias, **options):
    return Subsample(**options)(x)


def _max_pool(x, train, *, window, stride, padding):
    square = (padding, padding)
    return nn.max_pool(x, (window, window), (stride, stride), (square, square))


def _bins(x, train, *, size):
    return adaptive_average_pool(x, size)  # Flax has none


def _pad(x, train, *, stride, features):
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[3])))


def _dropout(x, train, *, rate):
    return nn.Dropout(rate, deterministic=not train)(x)


WITH_PARAMETERS: dict[str, Callable] = {
    "conv": _conv,
    "partial_conv": _partial_conv,
    "norm": _norm,
    "dense": _dense,
    "subsample": _subsample,
}
WITHOUT: dict[str, Callable] = {
    "max_pool": _max_pool,
    "bins": _bins,
    "pad": _pad,
    "dropout": _dropout,
    "flatten": lambda x, train: x.reshape(x.shape[0], -1),
    "mean": lambda x, train: x.mean((1, 2)),
    "relu": lambda x, train: nn.relu(x),
    "scaled_tanh": lambda x, train: 1.7159 * jnp.tanh(2 / 3 * x),
}
