"""Sparse codes: few of many features whose weighted sum is the image.

Codes `h [B, K]` and a dictionary `D [K, P]` of K features explain `x [B, P]` as `h D`.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from .. import losses, metrics
from ..layers import Dense, tanh
from ..layers.initializers import normal
from ..ops import collective, image
from .reconstruction import unexplained
from .requirements import require_learner, require_weights


def soft_threshold(x, threshold):
    """Every value moved toward 0 by the threshold, and 0 where it is less.

    >>> soft_threshold(jnp.array([-3.0, 0.5]), 1.0).tolist()
    [-2.0, 0.0]
    """
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - threshold, 0)


@partial(jax.jit, static_argnames=("steps", "accelerate"))
def infer_codes(
    x,
    dictionary,
    penalty,
    *,
    steps: int = 100,
    accelerate: bool = True,
    start=None,
    prediction=None,
    closeness=0.0,
):
    """The codes of least `1/2 ‖x - h D‖² + penalty ‖h‖₁ + closeness/2 ‖h - prediction‖²`.

    Args:
      x: `[B, P]`; taken, as all else, as float32 at least.
      dictionary: `[K, P]`.
      penalty: of the absolute values, in the units of `x` squared for features of length 1.
      steps: of proximal gradient descent, at the rate 1 / largest eigenvalue of `D Dᵀ`.
      accelerate: FISTA, whose error falls as 1 / steps², in place of ISTA, as 1 / steps.
      start: `[B, K]`; None for zeros.
      prediction: `[B, K]` that the codes are to stay close to, as an encoder gives them.
      closeness: weight of the distance from it.

    Returns: `[B, K]`.

    Reference: Beck, Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm for linear
    inverse problems"; Kavukcuoglu, Ranzato, LeCun 2008, "Fast inference in sparse coding
    algorithms with applications to object recognition", equation 3 (prediction).

    >>> codes = infer_codes(jnp.array([[3.0, 0.5]]), jnp.eye(2), 1.0)
    >>> codes.round(4).tolist()
    [[2.0, 0.0]]
    """
    dtype = jnp.promote_types(jnp.result_type(x, dictionary), jnp.float32)
    x, dictionary = jnp.asarray(x, dtype), jnp.asarray(dictionary, dtype)
    products = dictionary @ dictionary.T
    steepest = jnp.linalg.eigvalsh(products)[-1] + closeness
    rate = 1 / jnp.maximum(steepest, jnp.finfo(dtype).tiny)  # of features that are all 0, too
    explained = x @ dictionary.T
    if prediction is not None:
        explained += closeness * prediction

    def descend(codes):
        gradient = codes @ products + closeness * codes - explained
        return soft_threshold(codes - rate * gradient, rate * penalty)

    start = jnp.zeros((len(x), len(dictionary))) if start is None else start
    start = jnp.asarray(start, dtype)
    if accelerate:
        return descend_accelerated(descend, start, steps)
    start = collective.varying_over_data(start)
    return lax.fori_loop(0, steps, lambda _, codes: descend(codes), start)


def descend_accelerated(descend, start, steps: int):
    """Where proximal gradient descent with FISTA's momentum has come to.

    Args:
      descend: from an array to the one after a step of plain descent, ISTA.
      start: an array, `[B, …]`.

    >>> descend_accelerated(lambda x: x / 2, jnp.ones(1), 2).tolist()
    [0.25]
    """

    def step(_, carried):
        x, ahead, momentum = carried
        after = descend(ahead)
        larger = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return after, after + (momentum - 1) / larger * (after - x), larger

    start = collective.varying_over_data(start)
    return lax.fori_loop(0, steps, step, (start, start, jnp.ones((), start.dtype)))[0]


class PredictiveCoder(nn.Module):
    """A dictionary, and an encoder that predicts the codes by it: `g tanh(x W + b)`.

    Attributes:
      features: how many.
      use_bias: whether the encoder has a bias.

    Returns: `{"code": [B, features], "reconstruction": …}`, the encoder's prediction and what the
    dictionary, its features at length 1, makes of it.

    Parameters: `encoder` (a dense layer), `gain [features]`, `dictionary [features, P]`.

    Reference: Kavukcuoglu, Ranzato, LeCun 2008, equation 2.

    >>> model, images = PredictiveCoder(16), jnp.ones((2, 4, 4, 1))
    >>> found, _ = model.init_with_output(jax.random.key(0), images, train=False)
    >>> found["code"].shape, found["reconstruction"].shape
    ((2, 16), (2, 4, 4, 1))
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x = images.reshape(len(images), -1)
        gain = self.param("gain", nn.initializers.ones, (self.features,), jnp.float32)
        shape = (self.features, x.shape[1])
        dictionary = self.param("dictionary", normal(1.0), shape, jnp.float32)
        code = gain[None] * tanh(Dense(self.features, use_bias=self.use_bias, name="encoder")(x))
        made = self.reconstruct({"dictionary": dictionary}, code)
        return {"code": code, "reconstruction": made.reshape(images.shape)}

    @nn.nowrap
    def reconstruct(self, params, codes):
        """The images that codes stand for, as vectors: `[B, features] -> [B, P]`."""
        return codes @ at_length_one(params["dictionary"], 1)

    @nn.nowrap
    def infer(self, params, images, penalty, *, steps: int, prediction=None, closeness=0.0):
        """The best codes of images, as `infer_codes` finds them from the prediction on."""
        x, dictionary = images.reshape(len(images), -1), at_length_one(params["dictionary"], 1)
        near = {"start": prediction, "prediction": prediction, "closeness": closeness}
        return infer_codes(x, dictionary, penalty, steps=steps, **near)


def sparse_coding_loss(
    model,
    penalty: float,
    *,
    closeness: float = 1.0,
    steps: int = 50,
    normalization: image.Normalization | None = None,
):
    """The loss function of predictive sparse decomposition, and of sparse coding.

    `1/2 ‖x - h D‖² + penalty ‖h‖₁ + closeness/2 ‖h - prediction‖²` at the codes `h` that are best
    for the dictionary and the encoder as they are; these are inferred anew at every step, and held
    while the dictionary's and the encoder's gradients are taken. In evaluation, the same.

    Args:
      model: `PredictiveCoder`, `ConvolutionalPredictiveCoder`.
      penalty: of the codes' absolute values.
      closeness: weight of the encoder's error. With 0 the codes do not hear of the encoder, nor it
        of them: plain sparse coding.
      steps: of the inference, from the encoder's prediction on, or from zeros without it.
      normalization: of the images; None leaves them in [0, 1].

    Returns: as `reconstruction_loss`; metrics also `zeros`, the share of codes that are 0.

    Raises: UserError for a penalty or closeness below 0.

    Reference: Kavukcuoglu, Ranzato, LeCun 2008, section 2.2; Olshausen, Field 1996; of images,
    Kavukcuoglu et al. 2010.

    >>> model = PredictiveCoder(2)
    >>> batch = {"image": jnp.array([3.0, 0.5]).reshape(1, 1, 2, 1)}
    >>> params = model.init(jax.random.key(0), batch["image"], train=False)["params"]
    >>> loss_fn = sparse_coding_loss(model, 1.0, closeness=0.0)
    >>> found = loss_fn({**params, "dictionary": jnp.eye(2)}, {}, batch, None)[0]
    >>> round(found.item(), 3)  # codes 2 and 0
    2.625
    """
    require_weights(penalty=penalty, closeness=closeness)
    require_learner("sparse_coding_loss", model, "predictive coders", "infer", "reconstruct")

    def loss_fn(params, batch_stats, batch, key):
        mask, target = batch.get("mask"), image.prepare(batch["image"], normalization)
        predicted = model.apply({"params": params}, target, train=key is not None)["code"]
        held, prediction = lax.stop_gradient((params, predicted if closeness else None))
        near = {"prediction": prediction, "closeness": closeness}
        codes = model.infer(held, target, penalty, steps=steps, **near)
        made = model.reconstruct(params, codes).reshape(target.shape)
        values = losses.squared_error(made, target) + penalty * _sum(jnp.abs(codes))
        values += closeness * losses.squared_error(predicted, codes)
        measured = {
            "loss": metrics.mean_metric(values, mask),
            "unexplained": unexplained(made, target, mask),
            "zeros": metrics.mean_metric(_sum(codes == 0) / codes[0].size, mask),
        }
        return losses.weighted_mean(values, mask), (batch_stats, measured)

    return loss_fn


def at_length_one(features, axis):
    """Features divided by their lengths, which are those over an axis, or over several.

    >>> at_length_one(jnp.array([[0.0, 4.0]]), 1).tolist()
    [[0.0, 1.0]]
    """
    return features / jnp.sqrt(jnp.square(features).sum(axis, keepdims=True))


def _sum(x):
    """Over all but the examples."""
    return x.sum(tuple(range(1, x.ndim)))
