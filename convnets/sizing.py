"""The size of every registered model, from a stored table that is read without JAX.

`python -m convnets.sizing` writes the table anew, once models were added or changed.
"""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from .tables import align_columns, format_count, format_shape

TABLE = Path(__file__).parent / "models" / "sizes.json"


class Size(NamedTuple):
    """What a model takes and costs, as it is created by default.

    Attributes:
      image_shape: `(H, W, C)` of the images that it was made for.
      parameters: without those of auxiliary heads, which are for training only.
      multiply_adds: of the forward pass of one such image, as `summarize` counts them.
    """

    image_shape: tuple[int, int, int]
    parameters: int
    multiply_adds: int


def model_sizes(pattern: str = "*") -> dict[str, Size]:
    """The sizes of the models of `list_models(pattern)`, by name, as they are stored.

    >>> model_sizes("lenet5")
    {'lenet5': Size(image_shape=(28, 28, 1), parameters=61706, multiply_adds=416520)}
    """
    return {
        name: Size(tuple(image_shape), *counts)
        for name, (image_shape, *counts) in json.loads(TABLE.read_text()).items()
        if fnmatchcase(name, pattern)
    }


def format_sizes(sizes: dict[str, Size]) -> str:
    """The sizes as a table for the terminal, a model a line, its name first.

    >>> print(format_sizes(model_sizes("*net5")))
    lenet5  28x28x1  61,706 parameters  417 k multiply-adds
    """
    rows = (
        (
            name,
            format_shape(size.image_shape),
            f"{size.parameters:,} parameters",
            f"{format_count(size.multiply_adds)} multiply-adds",
        )
        for name, size in sizes.items()
    )
    return "\n".join(align_columns(rows, left=2))


def trace_model(name: str):
    """Traces a model as it is created by default, for one image, without running it.

    Returns: its endpoints and its variables, as shapes; and its `Size`.

    >>> trace_model("lenet5")[2] == model_sizes()["lenet5"]
    True
    """
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict

    from .models import create_model, default_image_shape
    from .models.tracing import trace
    from .summary import count_multiply_adds

    model, image_shape = create_model(name), default_image_shape(name)
    found = []

    def initialize(key, images):
        made = model.init_with_output(key, images, train=False, method="endpoints")
        found.extend(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), made))
        return made

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    _, program = trace(initialize, jax.random.key(0), images)
    endpoints, variables = found
    params = flatten_dict(variables.get("params", {}), sep="/")
    parameters = {path: leaf.size for path, leaf in params.items()}
    size = Size(image_shape, *map(_total, (parameters, count_multiply_adds(program))))
    return endpoints, variables, size


def _total(counts) -> int:
    """The sum of counts by path, without the auxiliary heads."""
    return sum(count for path, count in counts.items() if not path.startswith("auxiliary"))


def write_sizes() -> None:
    """Measures every registered model and writes the table anew: a minute or two."""
    from .models import list_models

    lines = [
        f" {json.dumps(name)}: {json.dumps(trace_model(name)[2])}" for name in list_models()
    ]  # a model a line, for those who merge
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write_sizes()
