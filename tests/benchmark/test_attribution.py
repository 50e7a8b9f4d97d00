import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convnets.benchmark.attribution import KINDS, classify, read_program
from convnets.benchmark.workloads import compile_program, create_workload
from convnets.ops import max_pool

HLO = """\
HloModule jit_step, entry_computation_layout={()->f32[]}

FileNames
1 "/home/user/run.py"
2 "/site-packages/convnets/ops/normalization.py"
3 "/site-packages/optax/_src/update.py"

FunctionNames
1 "run"

FileLocations
1 {file_name_id=1 function_name_id=1 line=1 end_line=1 column=1 end_column=2}
2 {file_name_id=2 function_name_id=1 line=1 end_line=1 column=1 end_column=2}
3 {file_name_id=3 function_name_id=1 line=1 end_line=1 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=2}


%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %inner = f32[4]{0} dot(%p, %p), metadata={op_name="jit(step)/jvp(M)/head/dot_general"}
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %b = f32[4]{0} custom-call(%a), custom_call_target="convnets_onednn", \
metadata={op_name="jit(step)/jvp(M)/conv1/convolution" stack_frame_id=1}
  %c = (f32[4]{0}, u8[0]{0}) custom-call(%b), custom_call_target="__cudnn$convBackwardFilter"
  %d = f32[4]{0} custom-call(%b), custom_call_target="convnets_onednn", \
metadata={op_name="jit(step)/transpose(jvp(M))/conv1/convolution_input_gradient"}
  %e = f32[4]{0} fusion(%d), kind=kLoop, calls=%fused
  %f = f32[4]{0} multiply(%e, %b), metadata={op_name="jit(step)/jvp(M)/mul" stack_frame_id=2}
  %g = f32[4]{0} add(%f, %f), metadata={op_name="jit(step)/add" stack_frame_id=3}
  %h = f32[4]{0} maximum(%g, %g), metadata={op_name="jit(step)/jvp(M)/max" stack_frame_id=1}
  %i = f32[4]{0} copy(%h)
  ROOT %j = f32[4]{0} add(%i, %i), metadata={op_name="jit(step)/add" stack_frame_id=1}
}
"""


def test_every_sign_is_read():
    program = read_program(HLO)
    assert classify(program, training=True) == {
        "inner": "matrix_product",
        "b": "convolution",
        "c": "convolution_kernel_gradient",
        "d": "convolution_input_gradient",
        "e": "matrix_product",
        "f": "normalization",
        "g": "optimizer",
        "h": "elementwise",
        "i": "copy",
        "j": "other",
    }
    assert program.users["b"] == ["c", "d", "f"]
    assert program.operations["f"].files == (
        "/site-packages/convnets/ops/normalization.py",
        "/home/user/run.py",
    )
    assert classify(program, training=False)["j"] == "elementwise"


def kinds_of(workload):
    """For each kind, how many operations of the entry computation."""
    program = read_program(compile_program(workload).compiled.as_text())
    kinds = classify(program, training=workload.mode == "train")
    assert set(kinds.values()) <= set(KINDS)
    entry = max(program.computations, key=lambda name: "main" in name)
    names = [kinds[name] for name in program.computations[entry] if name in kinds]
    return {kind: names.count(kind) for kind in KINDS}


def test_the_step_of_a_residual_network_has_every_kind():
    counts = kinds_of(create_workload("cifar_resnet8", 4, lowering="xla"))
    assert counts["convolution"] == 7
    assert counts["convolution_input_gradient"] == 2 * 6  # with the reversal of the kernel
    assert counts["convolution_kernel_gradient"] == 2 * 7  # with its transposition
    assert counts["matrix_product"] == 3
    assert counts["normalization"] >= 7 * 3
    assert counts["optimizer"] >= 10
    assert counts["elementwise"] >= 7
    assert counts["pooling"] >= 1


def test_inference_has_no_gradients():
    counts = kinds_of(create_workload("lenet5", 4, mode="infer", lowering="xla"))
    assert counts["convolution"] == 2
    assert counts["matrix_product"] == 3
    assert counts["elementwise"] >= 2  # pooling among them, which XLA joins with the ReLU behind it
    assert not any(counts[kind] for kind in KINDS if "gradient" in kind or kind == "optimizer")


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_xlas_convolutions_are_told_apart_by_what_uses_them(strides):
    def network(kernels, x):
        for kernel in kernels:
            layout = ("NHWC", "HWIO", "NHWC")
            x = lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=layout)
            x = jnp.maximum(max_pool(x, 2), 0)
        return (x**2).sum()

    kernels = [np.ones((3, 3, 3, 4), np.float32), np.ones((3, 3, 4, 5), np.float32)]
    step = jax.jit(lambda k, x: jax.tree.map(lambda a, b: a - b, k, jax.grad(network)(k, x)))
    text = step.lower(kernels, np.ones((2, 32, 32, 3), np.float32)).compile().as_text()
    kinds = list(classify(read_program(text), training=True).values())
    found = [kind for kind in kinds if kind.startswith("convolution")]
    assert found.count("convolution") == 2
    assert found.count("convolution_input_gradient") == 1
    assert found.count("convolution_kernel_gradient") == 2
