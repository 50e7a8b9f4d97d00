"""What is measured: a network in training or inference, and the program that does it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental.compilation_cache import compilation_cache

from .. import parallel
from ..errors import UserError, unknown
from ..models import Classifier, create_model, default_image_shape
from ..ops import LOWERINGS, fuse_convolutions, lowering
from ..parallel.compilation import compiler_options
from ..runs import with_precision
from ..tasks import classification_loss
from ..training import create_optimizer, make_step
from ..training.state import TrainState

MODES = ("train", "infer")
PRECISIONS = ("float32", "bfloat16")
RATE, MOMENTUM, DECAY = 1e-3, 0.9, 1e-4  # of every contestant's optimizer; decay on kernels only


class Workload(NamedTuple):
    """A network in training or inference on one device; `create_workload` makes and checks one.

    Attributes:
      model: name of a registered model, in its own number of classes.
      batch_size: images a step.
      image_shape: `(H, W, C)`.
      mode: `train`, the whole step with momentum and weight decay, or `infer`, logits of images.
      precision: `float32` or `bfloat16`, that which a run's `--precision` computes in.
      lowering: of the convolutions on the CPU; None for what a trace would use by itself.
    """

    model: str
    batch_size: int
    image_shape: tuple[int, int, int]
    mode: str = "train"
    precision: str = "float32"
    lowering: str | None = None


def create_workload(model: str, batch_size: int, image_shape=None, **options) -> Workload:
    """A workload; `image_shape` None stands for that which the model was made for.

    Raises: UserError for unknown names, or a batch of less than one image.

    >>> create_workload("lenet5", 8).image_shape
    (28, 28, 1)
    """
    workload = Workload(model, batch_size, image_shape or default_image_shape(model), **options)
    if batch_size < 1:
        raise UserError(f"the batch size is at least 1, not {batch_size}")
    for kind, name, names in (
        ("mode", workload.mode, MODES),
        ("precision", workload.precision, PRECISIONS),
        ("lowering", workload.lowering, (*LOWERINGS, None)),
    ):
        if name not in names:
            raise unknown(kind, name, filter(None, names))
    return workload


class Program(NamedTuple):
    """A workload, compiled and not yet run.

    Attributes:
      workload: what it does.
      compiled: `(state, batch) -> (state, metrics)` or `(variables, images) -> logits`.
      arguments: makes the values of both, on the device.
      compile_seconds: of tracing, lowering and compiling, nothing read from a persistent cache.
    """

    workload: Workload
    compiled: jax.stages.Compiled
    arguments: Callable[[], tuple[Any, Any]]
    compile_seconds: float


def make_model(workload: Workload) -> Classifier:
    """The model of a workload, in its precision."""
    return with_precision(create_model(workload.model), workload.precision)


def compile_program(workload: Workload) -> Program:
    """Compiles a workload as training and prediction compile it.

    Raises: UserError for images too small for the model.
    """
    model = make_model(workload)
    function, arrange = (_training if workload.mode == "train" else _inference)(model)
    chosen = lowering(workload.lowering) if workload.lowering else contextlib.nullcontext()
    with chosen:
        shapes = jax.eval_shape(arrange, variable_shapes(workload), *_batch_shapes(workload))
        compiled, seconds = compile_cold(function, *shapes)

    def arguments():
        return arrange(
            *jax.tree.map(jnp.asarray, (create_variables(workload), *create_batch(workload)))
        )

    return Program(workload, compiled, arguments, seconds)


def compile_cold(function, *shapes) -> tuple[jax.stages.Compiled, float]:
    """A jitted function compiled for shapes, and the seconds that took without a cache."""
    with _without_cache():
        begin = time.perf_counter()
        compiled = function.lower(*shapes).compile()
        return compiled, time.perf_counter() - begin


def variable_shapes(workload: Workload) -> dict:
    """Shapes and dtypes of the model's variables."""
    images = jax.ShapeDtypeStruct((1, *workload.image_shape), jnp.float32)
    return jax.eval_shape(
        partial(make_model(workload).init, train=False), jax.random.key(0), images
    )


def create_variables(workload: Workload) -> dict:
    """The model's variables as NumPy arrays: kernels at He's variance, statistics as at first.

    Drawn here and not by the model, for that would take longer to compile than the step.
    """
    rng = np.random.default_rng(0)
    fixed = {"bias": 0, "mean": 0, "scale": 1, "var": 1, "coefficient": 0.25}

    def fill(name, leaf):
        if name in fixed:
            return np.full(leaf.shape, fixed[name], np.float32)
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]), dtype=np.float32)
        return deviation * rng.standard_normal(leaf.shape, np.float32)

    flat = flatten_dict(variable_shapes(workload))
    return unflatten_dict({path: fill(path[-1], leaf) for path, leaf in flat.items()})


def create_batch(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Images `[B, H, W, C]`, float32 as normalized ones are, and random labels `[B]`, int32."""
    rng = np.random.default_rng(1)
    images, labels = _batch_shapes(workload)
    classes = create_model(workload.model).num_classes
    return (
        rng.standard_normal(images.shape, images.dtype),
        rng.integers(0, classes, labels.shape, labels.dtype),
    )


def _batch_shapes(workload):
    size = workload.batch_size
    return (
        jax.ShapeDtypeStruct((size, *workload.image_shape), np.float32),
        jax.ShapeDtypeStruct((size,), np.int32),
    )


def _training(model):
    """The jitted step, and what arranges variables, images and labels as its arguments."""
    optimizer = create_optimizer("momentum", RATE, momentum=MOMENTUM, weight_decay=DECAY)
    step = parallel.compile(make_step(classification_loss(model), optimizer), devices=1)

    def arrange(variables, images, labels):
        state = TrainState.create(variables, optimizer, jax.random.key(0))
        return state, {"image": images, "label": labels}

    return step.run, arrange


def _inference(model):
    function = jax.jit(
        fuse_convolutions(partial(model.apply, train=False)),
        compiler_options=compiler_options(jax.default_backend()),
    )
    return function, lambda variables, images, labels: (variables, images)


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """Compiles anew what a persistent cache may hold."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it asks for the setting once only
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
