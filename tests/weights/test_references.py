import numpy as np
import pytest

from convnets import UserError
from convnets.weights.references import draw_images, fill, read_reference, read_weights

GOOD = {
    "seed": 3,
    "input_shape": (2, 3, 4, 5),
    "logits": np.ones((2, 7), np.float32),
    "layers": ['["conv1", [2, 6, 4, 5], 0.5, 1.5]', '["fc", [2, 7], 0, 1]'],
}
FILLED = {"names": ["conv1.weight", "bn1.running_mean"], "shapes": ["[6, 3, 1, 1]", "[6]"]}


def save(path, **changes):
    np.savez(path, **{k: v for k, v in (GOOD | changes).items() if v is not None})
    return path


def test_a_reference_is_read(tmp_path):
    reference = read_reference(save(tmp_path / "it.npz"))
    assert reference.images.shape == (2, 4, 5, 3)
    assert reference.layers[0] == ("conv1", (2, 6, 4, 5), 0.5, 1.5)
    assert [layer.name for layer in reference.layers] == ["conv1", "fc"]
    assert reference.state_dict is None
    np.testing.assert_array_equal(reference.images, draw_images((2, 3, 4, 5), seed=3))


def test_weights_are_filled_by_the_rule_and_statistics_are_taken_as_they_are(tmp_path):
    mean = np.arange(6, dtype=np.float32)
    path = save(tmp_path / "it.npz", **FILLED, **{"statistics/bn1.running_mean": mean})
    state_dict, reference = read_weights(path)
    assert [*state_dict] == FILLED["names"]
    assert state_dict is reference.state_dict
    np.testing.assert_array_equal(state_dict["conv1.weight"], fill("conv1.weight", (6, 3, 1, 1), 3))
    np.testing.assert_array_equal(state_dict["bn1.running_mean"], mean)


def test_the_rule():
    kernel = fill("conv.weight", (64, 8, 3, 3), seed=0)
    assert kernel.dtype == np.float32
    assert kernel.std() == pytest.approx(np.sqrt(2 / 72), rel=0.02)
    assert fill("a.weight", (9,), 0).tolist() != fill("b.weight", (9,), 0).tolist()
    assert fill("a.weight", (9,), 0).tolist() != fill("a.weight", (9,), 1).tolist()
    for name, shape in (("bn.weight", (99,)), ("block.layer_scale", (99, 1, 1))):
        scale = fill(name, shape, 0)
        assert (scale >= 0.5).all()
        assert (scale <= 1.5).all()
    assert abs(fill("fc.bias", (999,), 0)).max() < 0.5
    assert fill("bn.num_batches_tracked", (), 0).dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": None, "seed": None}, "it lacks layers, seed"),
        ({"layers": ["no list"]}, "is no reference: "),
        ({"layers": ['["conv1", [2]]']}, "is no reference: "),
        ({"logits": np.ones((2, 3, 4))}, r"expected logits \[B, K\] of two images or more"),
        ({"logits": np.ones((1, 7)), "input_shape": (1, 3, 4, 5)}, "two images or more"),
        ({"input_shape": (2, 3)}, "is no reference: "),
        ({"input_shape": (2, 3, 2**30, 2**30)}, "is no reference: "),
        ({"seed": np.inf}, "is no reference: "),
        ({"layers": ["[" * 100_000]}, "is no reference: "),
        ({"logits": np.array([["a"], ["b"]])}, "expected floating logits"),
        ({"layers": np.array([None])}, "is no .npz file|is no reference"),
    ],
)
def test_what_is_no_reference_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_reference(save(tmp_path / "it.npz", **changes))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot read .*missing.npz: No such file"):
        read_weights(tmp_path / "missing.npz")
    for content in (b"", b"text", save(tmp_path / "whole.npz").read_bytes()[:-300]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(UserError, match="bad.npz is no .npz file"):
            read_reference(tmp_path / "bad.npz")
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(UserError, match="array.npy is no .npz file"):
        read_reference(tmp_path / "array.npy")
    with pytest.raises(UserError, match="lacks names and shapes"):
        read_weights(save(tmp_path / "it.npz"))
