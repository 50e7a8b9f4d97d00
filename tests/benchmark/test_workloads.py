import jax
import numpy as np
import pytest

from convnets.benchmark.workloads import (
    Workload,
    compile_cold,
    compile_program,
    create_batch,
    create_variables,
    create_workload,
    make_model,
)
from convnets.errors import UserError
from convnets.models import create_model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "lenet6"}, "did you mean 'lenet5'"),
        ({"batch_size": 0}, "at least 1, not 0"),
        ({"mode": "training"}, "did you mean 'train'"),
        ({"precision": "float16"}, "did you mean 'bfloat16'"),
        ({"lowering": "onednnn"}, "did you mean 'onednn'"),
    ],
)
def test_bad_workloads_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        create_workload(**{"model": "lenet5", "batch_size": 4, **options})


def test_images_too_small_are_refused():
    with pytest.raises(UserError, match="came 3x3"):
        compile_program(create_workload("lenet5", 2, (6, 6, 1)))


def test_a_training_program_is_the_real_step():
    """Two steps change every parameter and statistic, and count."""
    program = compile_program(create_workload("cifar_resnet8", 4))
    state, batch = program.arguments()
    before = jax.device_get((state.params, state.batch_stats))
    for _ in range(2):
        state, metrics = program.compiled(state, batch)
    assert int(state.step) == 2
    assert int(metrics["accuracy"][1]) == 4
    after = jax.device_get((state.params, state.batch_stats))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        assert np.isfinite(new).all()
        assert (old != new).any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_inference_program_gives_the_models_logits(precision):
    workload = create_workload("cifar_resnet8", 3, mode="infer", precision=precision)
    variables, (images, _) = create_variables(workload), create_batch(workload)
    program = compile_program(workload)
    logits = program.compiled(*program.arguments())
    expected = create_model("cifar_resnet8").apply(variables, images, train=False)
    tolerance = {"float32": 1e-5, "bfloat16": 0.05}[precision]
    np.testing.assert_allclose(logits, expected, atol=tolerance * np.abs(expected).max())
    if precision == "bfloat16":
        assert np.abs(logits - expected).max() > 1e-6
        assert make_model(workload).dtype == "bfloat16"


def test_variables_are_the_models_own_and_wide_enough():
    workload = Workload("lenet5_1998", 2, (28, 28, 1))
    variables = create_variables(workload)
    init = make_model(workload).init
    images = np.zeros((1, 28, 28, 1), np.float32)
    expected = jax.eval_shape(lambda: init(jax.random.key(0), images, train=False))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, expected)
    assert variables["params"]["hidden"]["dense1"]["kernel"].std() == pytest.approx(
        np.sqrt(2 / 400), rel=0.02
    )


def test_compiling_is_cold_every_time():
    """The persistent cache of the tests is neither read nor written, and works again after."""
    requests = []

    def listen(event, **_):
        requests.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        for _ in range(2):
            _, seconds = compile_cold(jax.jit(lambda x: x * 41 + 1), np.float32(1))
            assert seconds > 0
        cold = [event for event in requests if "cache_hits" in event or "cache_misses" in event]
        assert cold == []
        jax.jit(lambda x: x * 43 + 1).lower(np.float32(1)).compile()
        jax.clear_caches()
        jax.jit(lambda x: x * 43 + 1).lower(np.float32(1)).compile()
        assert any("cache_hits" in event for event in requests)
    finally:
        jax.monitoring.unregister_event_listener(listen)
