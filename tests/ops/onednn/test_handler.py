"""The handler, called as XLA calls it: whatever the shape, it writes into its buffers alone."""

import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convnets import ops
from convnets.ops import onednn
from convnets.ops.onednn import calls, frame, handler, library
from convnets.ops.onednn.calls import Convolution
from convnets.ops.onednn.library import Unsupported

from .forging import call_forged, guarded

pytestmark = pytest.mark.skipif(not onednn.available(), reason="needs the extra onednn")

CASES = 300
KINDS = ("forward", "input_gradient", "kernel_gradient")


def draw_convolution(random) -> Convolution:
    def pair(low, high):
        return tuple(int(n) for n in random.integers(low, high + 1, 2))

    while True:
        groups = int(random.choice([1, 1, 1, 2, 3, 8]))
        multiple = int(random.choice([1, 1, 8, 16]))  # machine code differs for whole vectors
        inside, outside = (multiple * int(n) for n in random.integers(1, 70 // multiple + 1, 2))
        kernel, size = pair(1, 5), pair(1, 17)
        stride, dilation = pair(1, 3), pair(1, 2)
        padding = pair(0, 3), pair(0, 3)
        output = tuple(
            (n + sum(pads) - (k - 1) * d - 1) // s + 1
            for n, k, s, pads, d in zip(size, kernel, stride, padding, dilation)
        )
        if min(output) > 0:
            break
    batch = int(random.integers(1, 6))
    kind = str(random.choice(KINDS))
    follows = [bool(b) and kind == "forward" for b in random.integers(0, 2, 3)]
    return Convolution(
        kind,
        (batch, *size, inside * groups),
        (*kernel, inside, outside * groups),
        (batch, *output, outside * groups),
        stride,
        padding,
        dilation,
        groups,
        str(random.choice(["float32", "bfloat16"])),
        *follows,
    )


def test_no_kernel_writes_outside_its_buffers():
    random, kinds = np.random.default_rng(0), set()
    for _ in range(CASES):
        convolution = draw_convolution(random)
        try:
            key, workspace = calls._prepare(convolution)
        except Unsupported:
            continue
        kinds.add(convolution.kind)
        sizes = [
            jnp.dtype(convolution.dtype).itemsize * int(np.prod(shape))
            for shape in (convolution.image, convolution.kernel, convolution.output)
        ]
        image, kernel, output = sizes
        order = {
            "forward": (image, kernel, output),
            "input_gradient": (output, kernel, image),
            "kernel_gradient": (image, output, kernel),
        }[convolution.kind]
        bias = convolution.kernel[3] * jnp.dtype(convolution.dtype).itemsize
        follows = [bias] * convolution.bias + [output] * convolution.addend
        regions = [guarded(size) for size in (*order[:2], *follows, order[2], workspace)]
        arrays = [array for array, _ in regions]
        called = library.library().table.handler[0]
        assert call_forged(called, arrays[:-2], arrays[-2:], key) == 0, convolution
        assert all(is_whole() for _, is_whole in regions), convolution
    assert kinds == set(KINDS)


def test_the_kernel_that_writes_outside_is_not_used():
    strided = Convolution(
        "kernel_gradient", (2, 9, 9, 24), (1, 1, 24, 24), (2, 5, 5, 24), (2, 2), ((0, 0), (0, 0)),
        (1, 1), 1, "float32",
    )  # fmt: skip
    assert calls.convolution_call(strided) is None
    assert calls.convolution_call(strided._replace(kind="forward")) is not None


def test_a_program_of_another_process_ends_in_an_error():
    outputs = [jax.ShapeDtypeStruct((2,), jnp.float32)]
    unknown = jax.jit(lambda x: jax.ffi.ffi_call(handler.TARGET, outputs)(x, key=np.int64(7))[0])
    with pytest.raises(jax.errors.JaxRuntimeError, match="compiled in another process"):
        unknown(jnp.ones(2)).block_until_ready()


@pytest.mark.parametrize(
    "missing", ["interface", "numba", "numba that works", "machine", "library"]
)
def test_without_what_it_needs_there_is_none(missing, monkeypatch):
    monkeypatch.setattr(library, "_find", library._find.__wrapped__)
    if missing == "interface":
        monkeypatch.setattr(frame, "_interface", lambda: (0, 99))
    elif missing == "numba":
        monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    elif missing == "machine":
        monkeypatch.setattr(library.platform, "machine", lambda: "riscv64")
    elif missing == "numba that works":

        def refuse(*_):
            raise ImportError("Numba needs NumPy 2.2 or less")

        monkeypatch.setattr(handler, "register", refuse)
    else:
        monkeypatch.setattr(library, "NAME", "libnothing.so")
    assert not onednn.available()
    assert onednn.version() is None
    assert ops.current_lowering() == "plain"
    y = jax.jit(lambda x: ops.convolve(x, jnp.ones((3, 3, 5, 5))))(jnp.ones((1, 4, 4, 5)))
    assert float(y[0, 0, 0, 0]) == 45


def make_training(seed, channels=16):
    random = np.random.default_rng(seed)
    x = jnp.asarray(random.normal(size=(16, 16, 16, channels)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(3, 3, channels, channels)) / 12, jnp.float32)

    def loss(kernel):
        y = x
        for _ in range(4):
            y = jnp.tanh(ops.convolve(y, kernel, padding=1))
        return jnp.mean(y**2)

    step = jax.jit(lambda kernel: kernel - jax.grad(loss)(kernel))

    def train(steps):
        state = kernel
        for _ in range(steps):
            state = step(state)
        return np.asarray(state)

    return train


def test_the_same_bits_again_and_in_two_threads_at_once():
    trainings = [make_training(seed) for seed in (1, 2)]
    alone = [train(20) for train in trainings]
    together = [None, None]

    def run(index):
        together[index] = trainings[index](20)

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for once, again in zip(alone, together):
        np.testing.assert_array_equal(once, again)


def test_a_busy_python_thread_costs_its_share_of_the_cores():
    train = make_training(3)
    train(3)
    begin = time.perf_counter()
    train(60)
    quiet = time.perf_counter() - begin
    done = threading.Event()

    def spin():
        while not done.is_set():
            pass

    busy = threading.Thread(target=spin)
    busy.start()
    try:
        begin = time.perf_counter()
        train(60)
        beside = time.perf_counter() - begin
    finally:
        done.set()
        busy.join()
    assert beside < 8 * quiet  # a callback that waits for the interpreter lock: twenty times


LONG = """
import resource, jax, jax.numpy as jnp, numpy as np
from convnets import create_model
from convnets.ops import current_lowering
assert current_lowering() == "onednn"
model = create_model("cifar_resnet8", num_classes=10)
images = jnp.asarray(np.random.default_rng(0).normal(size=(8, 16, 16, 3)), jnp.float32)
variables = model.init(jax.random.key(0), images, train=False)

@jax.jit
def step(variables):
    def loss(params):
        both = {**variables, "params": params}
        logits, new = model.apply(both, images, train=True, mutable=["batch_stats"])
        return jnp.mean(logits**2), new
    grads, new = jax.grad(loss, has_aux=True)(variables["params"])
    params = jax.tree.map(lambda p, g: p - 0.01 * g, variables["params"], grads)
    return {"params": params, **new}

memory = []
for number in range(1000):
    variables = step(variables)
    if number in (200, 999):
        jax.block_until_ready(variables)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(variables))
assert memory[1] - memory[0] < 20, memory
"""


def test_a_thousand_steps_neither_hang_nor_leak():
    subprocess.run([sys.executable, "-c", LONG], check=True, timeout=300)


def test_threads_that_prepare_the_same_share_one_row():
    same = Convolution(
        "forward", (3, 7, 7, 5), (3, 3, 5, 5), (3, 5, 5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 1,
        "float32",
    )  # fmt: skip
    keys = {int(calls._prepare.__wrapped__(same)[0]) for _ in range(3)}
    table = library.library().table
    assert len(keys) == 1
    found = [row for key, row in table.cells.tolist() if key in keys]
    assert found == [table.rows[key].ctypes.data for key in keys]


def test_threads_that_are_first_at_once_open_one_library():
    code = """
import threading
from convnets.ops import onednn
found = []
threads = [threading.Thread(target=lambda: found.append(onednn.available())) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert found == [True] * 4
import jax.numpy as jnp
from convnets import ops
ops.convolve(jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8)))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_full_table_leaves_the_rest_to_jax(monkeypatch):
    monkeypatch.setattr(handler, "CELLS", 0)
    kernel = jnp.ones((3, 3, 11, 13))
    y = jax.jit(lambda x: ops.convolve(x, kernel))(jnp.ones((1, 3, 3, 11)))
    assert float(y[0, 0, 0, 0]) == 99
