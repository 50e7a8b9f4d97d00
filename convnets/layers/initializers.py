"""Initial values of parameters: `init(key, shape, dtype)`, in Flax's convention.

For a kernel `[…, C in, C out]` whose leading axes are pixels, `fan_in` is pixels times C in (what
one output sums over, C in counted within its group) and `fan_out` pixels times C out. `normal`
forms draw from an untruncated normal distribution, `uniform` forms from `[-a, a]` with the same
variance, `a = sqrt(3 variance)`.

Differs: `jax.nn.initializers` truncates its `…_normal` forms at two standard deviations, and
`torch.nn` layers start at `he_uniform` of a leaky slope sqrt(5), variance `1 / (3 fan_in)`.

>>> import jax
>>> he_normal("fan_out")(jax.random.key(0), (3, 3, 16, 32)).shape
(3, 3, 16, 32)
"""

from jax.nn.initializers import Initializer, constant, normal, ones, variance_scaling, zeros

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "zeros",
]


def lecun_normal() -> Initializer:
    """Variance `1 / fan_in`: sums of unit variance from inputs of unit variance.

    Reference: LeCun, Bottou, Orr, Müller 1998, "Efficient BackProp", equation 16.
    """
    return variance_scaling(1.0, "fan_in", "normal")


def lecun_uniform() -> Initializer:
    """`lecun_normal`'s variance, uniform in `±sqrt(3 / fan_in)`."""
    return variance_scaling(1.0, "fan_in", "uniform")


def glorot_normal() -> Initializer:
    """Variance `2 / (fan_in + fan_out)`: between what keeps the variance of the activations on
    the way forward and of the gradients on the way back. Also called Xavier.

    Reference: Glorot, Bengio 2010, equation 12.
    """
    return variance_scaling(1.0, "fan_avg", "normal")


def glorot_uniform() -> Initializer:
    """Uniform in `±sqrt(6 / (fan_in + fan_out))`, the paper's "normalized initialization".

    Reference: Glorot, Bengio 2010, equation 16.
    """
    return variance_scaling(1.0, "fan_avg", "uniform")


def he_normal(mode: str = "fan_in") -> Initializer:
    """Variance `2 / fan_in` (or `fan_out`): a ReLU halves the second moment, 2 makes up for it.

    Reference: He, Zhang, Ren, Sun 2015, "Delving deep into rectifiers", equation 10 forward
    (`fan_in`), equation 14 backward (`fan_out`).
    """
    return variance_scaling(2.0, mode, "normal")


def he_uniform(mode: str = "fan_in") -> Initializer:
    """`he_normal`'s variance, uniform in `±sqrt(6 / fan_in)` (or `fan_out`)."""
    return variance_scaling(2.0, mode, "uniform")
