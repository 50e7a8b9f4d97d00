"""Rules say which parameter lies where; what does not fit is refused in one message."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import convnets
from convnets import UserError, parallel
from convnets.parallel import create_mesh, parameter_specs, state_shardings

PARAMS = {
    "backbone": {"conv": {"kernel": np.zeros((3, 3, 256, 256)), "bias": np.zeros(256)}},
    "dense": {"kernel": np.zeros((256, 512)), "bias": np.zeros(512)},
    "head": {"kernel": np.zeros((512, 10)), "bias": np.zeros(10)},
    "local": {"kernel": np.zeros((16, 6, 5, 5, 3, 8)), "bias": np.zeros((16, 6, 8))},
    "uneven": {"kernel": np.zeros((16, 15, 5, 5, 3, 9))},
}


def test_large_dense_and_local_layers_are_sharded_by_default():
    specs = parameter_specs(PARAMS, create_mesh(8, model=8))
    assert specs.pop("dense/kernel") == P(None, "model")
    assert specs.pop("uneven/kernel") == P("model")  # nine filters are not, sixteen rows are
    assert set(specs.values()) == {P()}
    local = {"kernel": np.zeros((16, 6, 9, 9, 3, 8))}
    assert parameter_specs(local, create_mesh(8, model=8)) == {"kernel": P(*[None] * 5, "model")}
    assert set(parameter_specs(PARAMS, create_mesh(8, model=1)).values()) == {P()}
    assert set(parameter_specs(PARAMS, create_mesh(8)).values()) == {P()}


def test_the_first_rule_that_matches_holds():
    rules = [("dense/bias", ("model",)), ("dense/*", ()), ("*/conv/kernel", (None, None, "data"))]
    rules += [("head/kernel", (("data", "model"), None))]
    specs = parameter_specs(PARAMS, create_mesh(8, model=2), rules)
    assert specs["dense/bias"] == P("model")
    assert specs["dense/kernel"] == P()
    assert specs["backbone/conv/kernel"] == P(None, None, "data")
    assert specs["head/kernel"] == P(("data", "model"), None)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("dense1/*", ("model",)), "'dense1/\\*' matches no parameter; there are backbone/conv"),
        (("dense/kernel", ("modle",)), "unknown axis in .*'modle'; did you mean 'model'"),
        (("head/kernel", (None, "model")), "shards dimension 1 of head/kernel .* in 8.* 10"),
        (("head/bias", (None, "model")), "is for 2 dimensions, but head/bias \\[10\\] has 1"),
        (("dense/kernel", ("model", "model")), "names the axis 'model' more than once"),
        (("dense/kernel", "model"), "a rule is a pattern of paths and the axis of each dimension"),
        ("dense", "a rule is a pattern of paths"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rule, message):
    with pytest.raises(UserError, match=message):
        parameter_specs(PARAMS, create_mesh(8, model=8), [rule])


def test_the_optimizers_state_follows_the_parameters():
    mesh = create_mesh(8, model=2)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), PARAMS)
    optimizer = optax.MultiSteps(
        optax.chain(optax.clip(1.0), optax.adamw(optax.constant_schedule(0.1))), 2
    ).gradient_transformation()

    def create():
        key = jax.random.key(0)
        return convnets.TrainState.create({"params": params}, optimizer, key, ema=True)

    state = jax.eval_shape(create)
    plain = state_shardings(state, mesh)
    adam = plain.opt_state.inner_opt_state[1][0]
    for tree in (adam.mu, adam.nu, plain.opt_state.acc_grads, plain.ema["params"]):
        assert jax.tree.leaves(tree) == jax.tree.leaves(plain.params)
    assert adam.mu["dense"]["kernel"].spec == P(None, "model")
    assert adam.count.spec == plain.step.spec == P()

    over_data = state_shardings(state, mesh, shard_optimizer=True)
    assert over_data.params == plain.params
    assert over_data.ema == plain.ema
    kept = over_data.opt_state.inner_opt_state[1][0].mu
    assert kept["dense"]["kernel"].spec == P("data", "model")
    assert kept["backbone"]["conv"]["kernel"].spec == P(None, None, "data", None)
    assert kept["head"]["bias"].spec == P()  # four do not divide ten


def test_meshes_and_strategies_that_do_not_fit_are_refused(monkeypatch):
    with pytest.raises(UserError, match="8 devices do not divide into models over 3"):
        create_mesh(8, model=3)
    others = Mesh(np.array(jax.devices()).reshape(2, 4), ("rows", "columns"))
    with pytest.raises(UserError, match="data, or data and model, not rows, columns"):
        parallel.compile(lambda state, batch: state, mesh=others)
    for strategy in ("shard_map", "pmap"):
        with pytest.raises(UserError, match=f"{strategy} has the whole state on every device"):
            parallel.compile(lambda state, batch: state, strategy, mesh=create_mesh(8, model=2))
        with pytest.raises(UserError, match=f"{strategy} has the whole state .* parallel jit"):
            convnets.fit(None, None, parallel=strategy, model_parallel=2)
    mesh, digits = create_mesh(8, model=2), convnets.load_dataset("digits")
    model = convnets.create_model("linear", num_classes=10)
    with pytest.raises(UserError, match="give a mesh, or devices and model_parallel, not both"):
        convnets.fit(model, digits, mesh=mesh, devices=8)
    with pytest.raises(UserError, match="'\\*/dense' matches no parameter; there are head/bias"):
        convnets.fit(model, digits, rules=[("*/dense", ())])
    with pytest.raises(UserError, match="axis in the rule 'head/kernel' 'model'; known: data"):
        convnets.fit(model, digits, rules=[("head/kernel", (None, "model"))])
    for given in ("a", 3):
        with pytest.raises(UserError, match=f"create_mesh makes one, not {given!r}"):
            convnets.fit(model, digits, mesh=given)
    with pytest.raises(UserError, match="are AxisType.Auto, not those that jax.make_mesh gives"):
        convnets.fit(model, digits, mesh=jax.make_mesh((8,), ("data",)))
    with pytest.raises(UserError, match="a model is over at least 1 device, not 0"):
        create_mesh(8, model=0)
    with monkeypatch.context() as patch:
        patch.setattr(jax, "process_count", lambda: 2)
        with pytest.raises(UserError, match="over all 2 processes, .*: 1 does not divide by 2"):
            create_mesh(1)
