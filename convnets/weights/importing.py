"""Weights of other libraries' models as variables of ours, and back."""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ..errors import UserError
from ..layers import with_epsilon
from ..models import create_model, default_image_shape, resolve_name
from .layouts import Layout, layout_of
from .libraries import names_of
from .names import Names
from .naming import first_convolution, layer_of, name_variables

COUNTER = "num_batches_tracked"  # of PyTorch's batch norms; used for nothing here
SHOWN = 5  # names in an error


def import_torch(
    name: str,
    state_dict: Mapping,
    source: str = "torchvision",
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    drop_head: bool = False,
    **options,
) -> dict:
    """The variables of `create_model(name)` from a PyTorch state dict, in NumPy arrays.

    Kernels are transposed, dense layers behind a flattened map reordered, and a batch norm's
    `weight`, `bias`, `running_mean` and `running_var` are `scale`, `bias`, `mean` and `var`.
    PyTorch's running variance is unbiased, ours biased; both are used as they are. Where the
    library's batch norms have another epsilon than our model, the difference goes into the running
    variances, so that inference is the same; they may be negative then, by less than our epsilon,
    with which they are used. Training has our epsilon, and starts them anew.

    Args:
      name: of our model, or timm's name of it.
      state_dict: name -> array, such as `files.read_state_dict` gives; PyTorch's tensors do too.
      source: the library whose names these are, `torchvision` or `timm`.
      num_classes, options: as in `create_model`.
      in_channels: of the images; None for those that the model was made for.
      drop_head: leave the classes' layer out, in the auxiliary heads too: the result is then for
        `create_model(name, num_classes=0)`.

    Returns: `{"params": …, "batch_stats": …}`, float32, batch statistics where there are any.

    Raises: UserError where a tensor is missing, left over, or of another shape, naming it.

    >>> import_torch("linear", {}, "torchvision")
    Traceback (most recent call last):
    ...
    convnets.errors.UserError: there is no table of names of 'linear' in torchvision
    """
    title = f"weights of {name} for {source}"
    if not isinstance(state_dict, Mapping):
        raise UserError(f"{title}: expected names and arrays, as read_state_dict gives of a file")
    if drop_head and num_classes:
        raise UserError(f"{title}: with drop_head there are no classes; see convnets.reset_head")
    model = create_model(name, 0 if drop_head else num_classes, **options)
    names = names_of(resolve_name(name), source)
    shapes = variable_shapes(model, name, in_channels)
    named = name_variables(shapes, names)
    given = _rename_all(title, state_dict, names)
    expected = {*named.values()}
    ignored = _counters(expected)
    if drop_head:
        whole = variable_shapes(create_model(name, **options), name, in_channels)
        dropped = {*name_variables(whole, names).values()} - expected
        ignored |= dropped | _counters(dropped)
    heads = {named[path] for path in named if layer_of(path).startswith("auxiliary")}
    hint = "" if heads & given.keys() else "; where there are no auxiliary heads give auxiliary=()"
    require_same_names(title, expected, given.keys() - ignored, hint if heads else "")
    arrays, wrong = {}, []
    for path, shape in shapes.items():
        array, layout = _as_array(given[named[path]]), _layout(path, shape, names)
        theirs = jax.eval_shape(layout.store, jax.ShapeDtypeStruct(shape, jnp.float32)).shape
        if array.shape != theirs or not jnp.issubdtype(array.dtype, jnp.floating):
            wrong.append(f"{named[path]} {theirs} (came {array.dtype} {array.shape})")
            continue
        arrays[path] = np.ascontiguousarray(layout.load(array, shape), dtype=np.float32)
    if wrong:
        raise UserError(
            f"{title}: expected floats {_list(wrong)}; for other classes give num_classes=… or "
            "drop_head=True, for other channels in_channels=…"
        )
    arrays = _shift_variances(arrays, _epsilon_over(model, names))
    return unflatten_dict(arrays, sep="/")


def export_torch(name: str, variables: Mapping, target: str = "torchvision", **options) -> dict:
    """The PyTorch state dict of a model's variables: what `import_torch` reads.

    Args:
      name, options: as in `create_model`; the number of classes is that of the variables.
      variables: `{"params": …, "batch_stats": …}`.
      target: the library whose names it takes.

    Returns: name -> NumPy array, float32, with a `num_batches_tracked` of zero for every batch
      norm. Imported weights come out with the same bits, except for running variances that took up
      a difference of epsilon: those below 5e-4 may differ by 1e-10.

    Raises: UserError where variables are missing, left over, or of another shape.
    """
    variables = {key: variables[key] for key in ("params", "batch_stats") if key in variables}
    given = {path: np.asarray(x) for path, x in flatten_dict(variables, sep="/").items()}
    title = f"variables of {name}"
    head = given.get("params/head/bias")
    model = create_model(name, 0 if head is None else head.size, **options)
    names = names_of(resolve_name(name), target)
    first = given.get(first_convolution(given))
    if first is None or first.ndim != 4:
        raise UserError(f"{title}: expected its params and batch_stats, came {_list([*given])}")
    shapes = variable_shapes(model, name, first.shape[2])
    require_same_names(title, shapes, given)
    wrong = [
        f"{path} {shape} (came {given[path].shape})"
        for path, shape in shapes.items()
        if given[path].shape != shape
    ]
    if wrong:
        raise UserError(f"{title}: expected {_list(wrong)}")
    given = _shift_variances(given, -_epsilon_over(model, names))
    state_dict = {}
    for path, key in name_variables(shapes, names).items():
        layout = _layout(path, shapes[path], names)
        state_dict[key] = np.ascontiguousarray(layout.store(given[path]), dtype=np.float32)
        if path.endswith("/var"):
            state_dict[key.replace("running_var", COUNTER)] = np.zeros((), np.int64)
    return state_dict


def variable_shapes(model, name: str, in_channels: int | None = None) -> dict[str, tuple]:
    """The shape of every variable of a model by its path, `params/backbone/conv1/kernel`."""
    height, width, channels = default_image_shape(name)
    channels = channels if in_channels is None else in_channels
    if channels < 1:
        raise UserError(f"images have at least 1 channel, came in_channels {in_channels}")
    images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    return {path: leaf.shape for path, leaf in flatten_dict(variables, sep="/").items()}


def require_same_names(title: str, expected, given, hint: str = ""):
    """Refuse what is missing, and what is left over, by name; the hint is for what is missing."""
    expected, given = set(expected), set(given)
    faults = []
    if expected - given:
        faults.append(f"missing {_list(sorted(expected - given))}{hint}")
    if given - expected:
        faults.append(f"left over {_list(sorted(given - expected))}")
    if faults:
        raise UserError(f"{title}: {'; '.join(faults)}")


def _counters(names) -> set[str]:
    """What PyTorch keeps beside running variances of these names."""
    return {name.replace("running_var", COUNTER) for name in names if "running_var" in name}


def _list(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _as_array(value) -> np.ndarray:
    """An array, or a tensor of PyTorch's of any dtype, wherever it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def _rename_all(title: str, state_dict: Mapping, names: Names) -> dict:
    """The state dict with today's names, where it has older ones."""
    given = {}
    for old, value in state_dict.items():
        key = str(old)
        for pattern, template in names.renamed:
            key = re.sub(pattern, template, key)
        if key in given:
            raise UserError(f"{title}: {key} is there twice, by its older name too")
        given[key] = value
    return given


def _layout(path: str, shape, names: Names) -> Layout:
    module, _, word = layer_of(path).rpartition("/")
    if word != "bias":
        for pattern, layout in names.layouts.items():
            if re.fullmatch(pattern, module if word == "kernel" else f"{module}/{word}"):
                return layout
    return layout_of(shape)


def _epsilon_over(model, names: Names) -> float:
    """By how much the library's epsilon is larger than our model's."""
    if names.epsilon is None:
        return 0.0
    norm = with_epsilon(model.backbone.norm, model.backbone.epsilon)
    return names.epsilon - norm.keywords["epsilon"]


def _shift_variances(arrays, difference: float) -> dict:
    """The running variances raised by a difference, which goes into their epsilon elsewhere."""
    if not difference:
        return arrays
    return {
        path: (x + np.float64(difference)).astype(np.float32) if path.endswith("/var") else x
        for path, x in arrays.items()
    }
