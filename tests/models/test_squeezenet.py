import jax
import numpy as np
import pytest

from convnets.errors import UserError
from convnets.models import create_model

from .shapes import endpoint_sizes
from .variables import draw_variables


def test_sizes_of_both_versions():
    first, second = endpoint_sizes("squeezenet1_0"), endpoint_sizes("squeezenet1_1")
    names = ["stem", *(f"fire{number}" for number in range(2, 10))]
    assert list(first) == list(second) == names
    assert first["stem"] == (109, 109, 96)
    assert second["stem"] == (111, 111, 64)
    assert [first[name][0] for name in names] == [109, 54, 54, 54, 27, 27, 27, 27, 13]
    assert [second[name][0] for name in names] == [111, 55, 55, 27, 27, 13, 13, 13, 13]
    widths = [128, 128, 256, 256, 384, 384, 512, 512]
    assert [first[name][2] for name in names[1:]] == widths
    assert [second[name][2] for name in names[1:]] == widths


def test_poolings_round_up():
    sizes = endpoint_sizes("squeezenet1_1", (97, 133, 3))
    assert [sizes[name][:2] for name in ("stem", "fire2", "fire4", "fire6")] == [
        (48, 66), (24, 33), (12, 16), (6, 8),
    ]  # fmt: skip
    assert endpoint_sizes("squeezenet1_0", (97, 133, 3))["fire9"][:2] == (5, 8)


def test_the_head_scores_pixels_and_pools_what_is_left_of_them():
    model = create_model("squeezenet1_1", num_classes=3)
    images = np.random.default_rng(0).random((2, 63, 63, 3), np.float32)
    headless = create_model("squeezenet1_1", num_classes=0)
    largest = create_model("squeezenet1_1", num_classes=3, pool="max")
    variables = draw_variables(model, images.shape[1:])

    @jax.jit
    def run(variables):  # all in one program, in which the backbone is there once
        bare = {"params": {"backbone": variables["params"]["backbone"]}}
        return (
            model.apply(variables, images, train=False, method="endpoints"),
            headless.apply(bare, images, train=False),
            largest.apply(variables, images, train=False),
        )

    endpoints, features, logits = run(variables)
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    scores = np.asarray(endpoints["fire9"]) @ head["kernel"] + head["bias"]
    expected = np.maximum(scores, 0).mean((1, 2))
    np.testing.assert_allclose(endpoints["logits"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(features, endpoints["fire9"].mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(logits, np.maximum(scores, 0).max((1, 2)), rtol=1e-4, atol=1e-6)


def test_pools_that_would_change_the_number_of_classes_are_refused():
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    for pool in ("both", "flatten"):
        model = create_model("squeezenet1_1", num_classes=4, pool=pool)
        with pytest.raises(UserError, match=f"the pool '{pool}' makes .* of the scores of 4"):
            jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)  # noqa: B023
        assert create_model("squeezenet1_1", num_classes=0, pool=pool).pool == pool
