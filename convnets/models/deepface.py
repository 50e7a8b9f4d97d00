"""DeepFace: convolutions, then layers that are connected locally, for faces that are aligned."""

from functools import partial

import flax.linen as nn

from ..layers import Conv, LocallyConnected, constant, normal, relu, run_stage
from ..ops import max_pool
from .classifier import Classifier
from .entry import Entry
from .perceptron import DenseLayers

START = {"kernel_init": normal(0.01), "bias_init": constant(0.5)}  # section 5.2


class DeepFace(nn.Module):
    """Two convolutions with one pooling between them, and three locally connected layers.

    In an aligned face every place shows another part of it, so that the layers `l4` to `l6` have
    kernels of their own for every pixel, and hold images to the size at which they were made.

    Attributes:
      checkpoint: the backward pass computes both stages, up to `m2` and from there, again (see
        `layers.run_stage`).

    Endpoints: `c1`, `m2`, `c3`, `l4`, `l5`, `l6`, all after their ReLU; for images of 152x152
    pixels of 142, 71, 63, 55, 25 and 21 pixels a side.

    Reference: Taigman, Yang, Ranzato, Wolf 2014, "DeepFace: closing the gap to human-level
    performance in face verification", section 3.2 and figure 2; section 5.2 for the start of
    weights and biases. Differs: the 71x71 of `m2` come of one row and column of padding. The layers
    of the figure have 118,923,774 parameters with F7 and F8, a little less than the "more than 120
    million" of the text. The rate of dropout behind F7 is 0.5, which the text does not say; the
    last layer starts as `Dense` does. Alignment is not part of the network.

    >>> images = jax.ShapeDtypeStruct((1, 152, 152, 3), "float32")
    >>> run = partial(DeepFace().init_with_output, train=False)
    >>> jax.eval_shape(run, jax.random.key(0), images)[0]["l6"].shape
    (1, 21, 21, 16)
    """

    checkpoint: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        conv, local = partial(Conv, padding=0, **START), partial(LocallyConnected, **START)

        def front(_, x):
            c1 = relu(conv(32, 11, name="conv1")(x))
            return c1, max_pool(c1, 3, 2, padding=((0, 1), (0, 1)))

        def rest(_, x):
            c3 = relu(conv(16, 9, name="conv3")(x))
            l4 = relu(local(16, 9, name="local4")(c3))
            l5 = relu(local(16, 7, 2, name="local5")(l4))
            l6 = relu(local(16, 5, name="local6")(l5))
            return c3, l4, l5, l6

        c1, m2 = run_stage(self, front, images)
        c3, l4, l5, l6 = run_stage(self, rest, m2)
        return {"c1": c1, "m2": m2, "c3": c3, "l4": l4, "l5": l5, "l6": l6}


MODELS = {
    "deepface": Entry(
        DeepFace,
        (152, 152, 3),
        4030,
        partial(
            Classifier,
            hidden=partial(DenseLayers, features=(4096,), dropout_behind=0.5, **START),
        ),
        {"pool": "flatten"},
    )
}
