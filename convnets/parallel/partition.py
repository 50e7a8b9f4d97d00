"""Where each array of a state lies on a mesh with the axes `data` and `model`.

Rules are `(pattern, entries)`: a pattern of parameters' paths, as `backbone/*/kernel` (`*` matches
slashes too), and the entries of a `PartitionSpec`, as `(None, "model")`; an entry may be several
axes, `("data", "model")`. The first rule that matches a parameter holds; those that none matches
are placed by `default_spec`. All that an optimizer or a moving average keeps of a parameter, in
its shape, lies as the parameter does.
"""

import functools
import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..errors import UserError, unknown
from ..ops.bands import MODEL_AXIS, in_bands
from ..ops.collective import DATA_AXIS
from .placement import gather, place_whole

LARGE = 2**16  # numbers in a kernel that is worth sharding

Rules = Sequence[tuple[str, tuple]]


def require_axes(mesh: Mesh) -> None:
    """Refuses what is no mesh, or one that has other axes than `data`, and `model` besides, or axes
    whose shardings JAX wants in every type, as those of `jax.make_mesh`."""
    if not isinstance(mesh, Mesh):
        raise UserError(
            f"a mesh is a jax.sharding.Mesh, as parallel.create_mesh makes one, not {mesh!r}"
        )
    if mesh.axis_names not in ((DATA_AXIS,), (DATA_AXIS, MODEL_AXIS)):
        raise UserError(
            f"a mesh has the axis data, or data and model, not {', '.join(mesh.axis_names)}; "
            "parallel.create_mesh makes one"
        )
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise UserError(
            "the axes of a mesh are AxisType.Auto, not those that jax.make_mesh gives by itself; "
            "parallel.create_mesh makes them"
        )


def is_sharded(mesh: Mesh, rules: Rules = (), shard_optimizer: bool = False) -> bool:
    """Whether a state may be sharded, and not whole on every device."""
    return MODEL_AXIS in mesh.axis_names or bool(rules) or shard_optimizer


def default_spec(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """How a parameter without a rule is sharded over `model`.

    Kernels of dense layers, `[C, features]`, are sharded by features, those of locally connected
    layers, `[H', W', kernel H, kernel W, C, features]`, by features too, else by rows or columns
    of the map: by the first of them that the axis divides. Small ones, and all else, are whole on
    every device; of convolutions it is the maps that are divided (`ops.bands`).
    """
    parts = mesh.shape.get(MODEL_AXIS, 1)
    choices = {2: (1,), 6: (5, 0, 1)}.get(len(shape), ())
    if parts > 1 and math.prod(shape) >= LARGE:
        for dimension in choices:
            if shape[dimension] % parts == 0:
                return PartitionSpec(*(None,) * dimension, MODEL_AXIS)
    return PartitionSpec()


def parameter_specs(params, mesh: Mesh, rules: Rules = ()) -> dict[str, PartitionSpec]:
    """How each parameter is sharded, by its path.

    Args:
      params: a tree of arrays, or of their shapes.

    Raises: UserError for a rule that matches no parameter, names an axis that the mesh has not, or
    one twice, has more entries than a parameter has dimensions, or shards a dimension that the axis
    does not divide.

    >>> from convnets.parallel import create_mesh
    >>> mesh = create_mesh(1, model=1)
    >>> params = {"head": {"bias": np.zeros(10), "kernel": np.zeros((84, 10))}}
    >>> tuple(parameter_specs(params, mesh, [("*/kernel", (None, "model"))])["head/kernel"])
    (None, 'model')
    """
    rules = [_read_rule(rule, mesh) for rule in rules]
    shapes = {path: leaf.shape for path, leaf in by_path(params).items()}
    for pattern, _ in rules:
        if not any(fnmatchcase(path, pattern) for path in shapes):
            shown = ", ".join([*shapes][:: max(1, len(shapes) // 4)][:5])
            raise UserError(f"the rule {pattern!r} matches no parameter; there are {shown}, …")

    def spec(path, shape):
        for pattern, entries in rules:
            if fnmatchcase(path, pattern):
                return _fitting_spec(path, shape, pattern, entries, mesh)
        return default_spec(shape, mesh)

    return {path: spec(path, shape) for path, shape in shapes.items()}


def state_shardings(state, mesh: Mesh, rules: Rules = (), *, shard_optimizer: bool = False):
    """A tree like the state, of where its arrays lie.

    Args:
      state: with `params`, or their shapes; of a tree without, every device has the whole.
      shard_optimizer: whether what the optimizer keeps is sharded over `data` besides, by the
        longest dimension that the axis divides, where it is not yet.

    Reference: Rajbhandari et al. 2020, "ZeRO: memory optimizations toward training trillion
    parameter models", section 5.1 (optimizer states). Differs: within each array, not among them.
    """
    params = getattr(state, "params", {})
    specs = parameter_specs(params, mesh, rules)
    shapes = {path: leaf.shape for path, leaf in by_path(params).items()}

    def sharding(path, leaf):
        found = _parameter_of(path, leaf, shapes)
        spec = PartitionSpec() if found is None else specs[found]
        if shard_optimizer and path.startswith("opt_state/"):
            spec = _over_data_too(spec, leaf.shape, mesh)
        return NamedSharding(mesh, spec)

    paths = by_path(state)
    leaves = [sharding(path, leaf) for path, leaf in paths.items()]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def place(tree, shardings):
    """The tree with every array where it belongs: a copy, unless it lies there already."""

    def put(x, sharding):
        there = getattr(x, "sharding", None)
        if there is not None and there.is_equivalent_to(sharding, x.ndim):
            return x
        # Through the host, because device_put may alias what it is given, and steps donate it.
        return place_whole(gather(x), mesh=sharding.mesh, spec=sharding.spec)

    return jax.tree.map(put, tree, shardings)


def create_sharded(create: Callable, mesh: Mesh, rules: Rules = (), **options) -> Callable:
    """The same function without arguments, compiled so that its result is made in its place: no
    device ever has more of it than its own part.

    Args:
      create: pure, as a call of `TrainState.create` on variables that it makes.
      options: `shard_optimizer`.
    """

    def create_placed():
        shardings = state_shardings(jax.eval_shape(create), mesh, rules, **options)
        return jax.jit(create, out_shardings=shardings)()

    return create_placed


def compile_sharded(step: Callable, mesh: Mesh, shardings_of: Callable, **options):
    """The step as one program over the mesh, which leaves a state that it returns in its place.

    Args:
      step: `step(state, …)`; what it returns besides such a state is the same on every device.
      shardings_of: of a state, where it lies.
      options: of `jax.jit`.
    """

    def stepping(state, *inputs):
        with in_bands(mesh):
            results = step(state, *inputs)
        return _placed_results(results, state, mesh, shardings_of)

    return jax.jit(stepping, **options)


def bytes_per_device(tree) -> dict[str, int]:
    """What each device holds of a tree of arrays, by the device's name.

    >>> list(bytes_per_device({"x": jax.numpy.zeros(3)}).values())
    [12]
    """
    found = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            found[str(shard.device)] = found.get(str(shard.device), 0) + shard.data.nbytes
    return found


def make_shardings_of(mesh: Mesh, rules: Rules, shard_optimizer: bool) -> Callable:
    """`state_shardings` of any state, worked out once for each structure."""
    rules = tuple(rules)

    @functools.cache
    def of_shapes(treedef, shapes):
        shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
        state = jax.tree.unflatten(treedef, shapes)
        return state_shardings(state, mesh, rules, shard_optimizer=shard_optimizer)

    def shardings_of(state):
        leaves, treedef = jax.tree.flatten(state)
        return of_shapes(treedef, tuple(np.shape(leaf) for leaf in leaves))

    return shardings_of


def _placed_results(results, state, mesh, shardings_of):
    """The results, constrained: a state among them to its place, the rest to every device."""
    whole = NamedSharding(mesh, PartitionSpec())
    structure = jax.tree.structure(state)

    def constrain(result):
        is_state = jax.tree.structure(result) == structure
        target = shardings_of(result) if is_state else jax.tree.map(lambda _: whole, result)
        return jax.tree.map(lax.with_sharding_constraint, result, target)

    return tuple(map(constrain, results)) if type(results) is tuple else constrain(results)


def by_path(tree) -> dict:
    """The leaves of any tree by their paths, as `params/head/bias`, in its order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _parameter_of(path, leaf, shapes):
    """The parameter that an array of a state belongs to: its path ends with the parameter's, and
    it has its shape; None where there is none."""
    words = path.split("/")
    ends = ("/".join(words[start:]) for start in range(1, len(words)))
    return next((end for end in ends if shapes.get(end) == leaf.shape), None)


def _read_rule(rule, mesh):
    """`(pattern, entries)`, each entry a tuple of axes."""
    try:
        pattern, entries = rule
        entries = [() if e is None else (e,) if isinstance(e, str) else tuple(e) for e in entries]
    except (TypeError, ValueError):
        entries = None
    if entries is None or not isinstance(pattern, str) or isinstance(rule[1], str):
        raise UserError(
            f"a rule is a pattern of paths and the axis of each dimension, as ('*/dense1/kernel', "
            f"(None, 'model')), not {rule!r}"
        )
    axes = [axis for entry in entries for axis in entry]
    for axis in axes:
        if axis not in mesh.axis_names:
            raise unknown(f"axis in the rule {pattern!r}", axis, mesh.axis_names)
        if axes.count(axis) > 1:
            raise UserError(f"the rule {pattern!r} names the axis {axis!r} more than once")
    return pattern, entries


def _fitting_spec(path, shape, pattern, entries, mesh):
    if len(entries) > len(shape):
        raise UserError(
            f"the rule {pattern!r} is for {len(entries)} dimensions, but {path} {list(shape)} has "
            f"{len(shape)}"
        )
    for number, (size, axes) in enumerate(zip(shape, entries)):
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if size % parts:
            raise UserError(
                f"the rule {pattern!r} shards dimension {number} of {path} {list(shape)} in "
                f"{parts}, which does not divide {size}: name another dimension, or another mesh"
            )
    return PartitionSpec(*(axes or None for axes in entries))


def _over_data_too(spec, shape, mesh):
    """The spec with `data` for the longest dimension that is whole and that it divides."""
    named = [*spec, *(None,) * (len(shape) - len(spec))]
    parts = mesh.shape[DATA_AXIS]
    taken = any(DATA_AXIS in ((e,) if isinstance(e, str) else e) for e in named if e is not None)
    free = [n for n, entry in enumerate(named) if entry is None and shape[n] % parts == 0]
    if taken or not free:
        return spec
    named[max(free, key=lambda n: shape[n])] = DATA_AXIS
    return PartitionSpec(*named)
