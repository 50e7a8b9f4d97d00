"""The choice of a lowering: forced, inspected, and made by what there is."""

import jax
import jax.numpy as jnp
import pytest

from convnets import ops
from convnets.errors import UserError
from convnets.ops import onednn

X, KERNEL = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8))


def lowered() -> bool:
    """Whether a convolution traced now calls oneDNN."""
    return "convnets_onednn" in jax.jit(lambda x: ops.convolve(x, KERNEL)).lower(X).as_text()


def test_a_forced_lowering_holds_inside_and_is_told():
    before = ops.current_lowering()
    with ops.lowering("xla"):
        assert ops.current_lowering() == "xla"
        with ops.lowering("plain"):
            assert ops.current_lowering() == "plain"
            assert not lowered()
        assert ops.current_lowering() == "xla"
    assert ops.current_lowering() == before


@pytest.mark.skipif(not onednn.available(), reason="needs the extra onednn")
def test_onednn_is_taken_where_it_is_found(monkeypatch):
    monkeypatch.delenv("CONVNETS_LOWERING", raising=False)
    assert ops.current_lowering() == "onednn"
    assert lowered()
    assert onednn.version().startswith("3.")


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("CONVNETS_LOWERING", "plain")
    assert ops.current_lowering() == "plain"
    assert not lowered()
    with ops.lowering("xla"):
        assert ops.current_lowering() == "xla"


def test_an_unknown_name_is_refused_with_the_nearest(monkeypatch):
    with pytest.raises(UserError, match="onednn"), ops.lowering("onedn"):
        pass
    monkeypatch.setenv("CONVNETS_LOWERING", "fast")
    with pytest.raises(UserError, match="CONVNETS_LOWERING"):
        ops.current_lowering()


def test_float64_is_left_to_xla():
    with jax.enable_x64(True), ops.lowering("onednn"):
        x, kernel = X.astype(jnp.float64), KERNEL.astype(jnp.float64)
        text = jax.jit(ops.convolve).lower(x, kernel).as_text()
        assert "convnets_onednn" not in text
        assert ops.convolve(x, kernel).dtype == jnp.float64
