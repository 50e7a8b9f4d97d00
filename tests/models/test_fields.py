"""Receptive fields against the published ones, gradients, and what a NaN in the image reaches."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import ops
from convnets.errors import UserError
from convnets.layers import Conv, LocallyConnected
from convnets.models import (
    create_backbone,
    create_model,
    default_image_shape,
    receptive_fields,
    trace_spans,
)
from convnets.visualize.programs import replace_relus

# Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", table 1;
# of a ResNet the one with the stride on its 3x3, as their formula gives it.
PUBLISHED = {"alexnet": 195, "vgg16": 212, "resnet50": 427}


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_are_as_large_as_published(name):
    fields = receptive_fields(create_backbone(name), default_image_shape(name))
    assert fields[-1].size == (PUBLISHED[name], PUBLISHED[name])
    assert fields[-1].stride == (32, 32)


class Odd(nn.Module):
    """Everything that moves pixels: strides, dilation, one-sided padding, branches, means."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        conv = partial(Conv, 3)
        x = conv(3, 2, padding=((0, 1), (1, 0)), name="conv1")(images)
        y = conv(3, padding=2, dilation=2, name="conv2")(x)
        z = jnp.concatenate([y, ops.max_pool(x, (2, 3), 1, (1, 1))[:, :-1]], 3)
        pooled = ops.average_pool(z, 3, 2, 1, ceil_mode=True)
        bins = ops.adaptive_average_pool(z, (3, 2))
        patch = LocallyConnected(2, (2, 3), (1, 2), name="local")(pooled)
        dense = nn.Dense(4, name="dense")(patch.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
        whole = dense * jax.nn.sigmoid(x.mean((1, 2), keepdims=True)[..., :1])
        return {
            "conv1": x, "both": z, "pooled": pooled, "bins": bins, "local": dense,
            "whole": whole, "row": whole.mean((1, 2)),
        }  # fmt: skip


class OfFlax(nn.Module):
    """Layers of Flax itself."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.Conv(4, (3, 5), strides=(2, 1), padding=((0, 1), (2, 0)), name="conv1")(images)
        y = nn.max_pool(nn.relu(x), (3, 2), strides=(2, 2), padding="SAME")
        z = nn.avg_pool(nn.Conv(4, (2, 2), kernel_dilation=2, name="conv2")(y), (2, 3))
        return {"conv1": x, "pool1": y, "pool2": z}


def with_nan(model, image_shape):
    """Which units a NaN in each row of the image reaches, and then one in each column."""
    height, width, _ = image_shape
    image = np.random.default_rng(0).uniform(size=image_shape).astype(np.float32)
    images = np.broadcast_to(image, (height + width, *image_shape)).copy()
    for row in range(height):
        images[row, row] = np.nan
    for column in range(width):
        images[height + column, :, column] = np.nan
    variables = model.init(jax.random.key(0), images[:1] * 0, train=False)
    with ops.lowering("xla"):  # the faster algorithms mix neighbors, NaN among them
        endpoints = jax.jit(partial(model.apply, train=False))(variables, images)
    return {name: np.isnan(np.asarray(maps)) for name, maps in endpoints.items() if maps.ndim == 4}


@pytest.mark.parametrize(
    ("model", "image_shape"),
    [
        (Odd(), (17, 22, 2)),
        (OfFlax(), (15, 18, 2)),
        (create_backbone("lenet5"), (28, 28, 1)),
        (create_backbone("cifar_resnet8"), (24, 20, 3)),
    ],
    ids=["odd", "flax", "lenet5", "cifar_resnet8"],
)
def test_a_nan_reaches_the_units_that_see_it_and_no_others(model, image_shape):
    reached, height = with_nan(model, image_shape), image_shape[0]
    spans = trace_spans(model, image_shape)
    assert {name for name, span in spans.items() if span is not None} == reached.keys()
    for name, maps in reached.items():
        rows, columns = maps[:height].any((2, 3)), maps[height:].any((1, 3))
        for seen, first, last in (
            (rows, spans[name].first_row, spans[name].last_row),
            (columns, spans[name].first_column, spans[name].last_column),
        ):
            np.testing.assert_array_equal(seen.argmax(0), first, name)
            np.testing.assert_array_equal(len(seen) - 1 - seen[::-1].argmax(0), last, name)


@pytest.mark.parametrize(("name", "size"), [("lenet5", 36), ("cifar_resnet8", 40)])
def test_the_gradient_of_a_unit_is_where_its_field_is(name, size):
    """ReLUs pass every gradient here; maxima are in other places of every image."""
    model, channels = create_backbone(name), default_image_shape(name)[2]
    shape = (size, size, channels)
    images = np.random.default_rng(0).normal(size=(64, *shape)).astype(np.float32)
    variables = model.init(jax.random.key(0), images[:1], train=False)

    def run(images):
        return model.apply(variables, images, train=False)

    linear = replace_relus(run, lambda inside, gradient: gradient)
    shapes = jax.eval_shape(run, images)
    pull = jax.jit(lambda images, above: jax.vjp(linear, images)[1](above)[0])
    spans, fields = trace_spans(model, shape), receptive_fields(model, shape)
    for field in fields:
        above = {key: np.zeros(value.shape, np.float32) for key, value in shapes.items()}
        row, column = (side // 2 for side in shapes[field.endpoint].shape[1:3])
        above[field.endpoint][:, row, column] = 1
        seen = np.abs(np.asarray(pull(images, above))).max((0, 3)) > 0
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        span = spans[field.endpoint]
        assert (rows[0], rows[-1]) == (span.first_row[row], span.last_row[row])
        assert (columns[0], columns[-1]) == (span.first_column[column], span.last_column[column])
        if rows[0] > 0 and rows[-1] < size - 1:
            assert len(rows) == field.size[0]
            assert (rows[0] + rows[-1]) / 2 == field.center[0] + row * field.stride[0]
    assert field.size[0] > 15


def test_what_sees_all_has_no_size():
    sizes = {field.endpoint: field.size for field in receptive_fields(Odd(), (17, 22, 2))}
    assert sizes.pop("conv1") == (3, 3)
    assert sizes.pop("both") == (11, 11)
    assert sizes.pop("pooled") == (15, 15)
    assert sizes.pop("local") == (19, 23)
    assert sizes == {"bins": None, "whole": None, "row": None}


class Sorted(nn.Module):
    def __call__(self, images, *, train: bool):
        return {"sorted": jnp.sort(images, 1)}


def test_an_operation_that_is_not_known_is_refused():
    with pytest.raises(UserError, match="through the operation sort"):
        trace_spans(Sorted(), (4, 4, 1))
    with pytest.raises(UserError, match="expected a backbone"):
        receptive_fields(create_model("lenet5"), (28, 28, 1))
