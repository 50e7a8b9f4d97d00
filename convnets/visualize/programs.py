"""A model's program, run with other derivatives of its ReLUs, or with something added to a value.

A model is traced to its program, and that is run operation by operation in a trace of its own. So
every model can be looked into as it is: no hook, no copy of a network, no switch in a layer.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.extend import source_info_util
from jax.extend.core import Literal

from ..errors import UserError
from ..models.tracing import programs_of

UPPER = {"relu": jnp.inf, "relu6": 6.0}  # what they are jitted as, and where they end
OPENED = {"jit": "jaxpr", "pjit": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}


def replace_relus(function, backward, *, required: bool = True):
    """The same function, whose ReLUs pass gradients in another way.

    ReLUs are `jax.nn.relu` and `jax.nn.relu6`, which are those of `convnets.layers` and of
    `flax.linen`; `jnp.maximum(x, 0)` is not known for one. Other activations keep their derivative.

    Args:
      function: of arrays and trees of them, whose values stay the same.
      backward: `f(inside, gradient) -> gradient`, of what arrives from above, and of where the
        input was in the range that a ReLU passes.
      required: whether to refuse a function without a ReLU.

    Raises: UserError for such a function, and for a ReLU inside a loop or a branch.

    >>> twice = replace_relus(lambda x: jax.nn.relu(x), lambda inside, gradient: 2 * gradient)
    >>> twice(-1.0).item(), jax.grad(twice)(-1.0).item()
    (0.0, 2.0)
    """

    def replaced(*arguments):
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if required and not _holds_relu(program.jaxpr):
            raise UserError("there is no ReLU in this network, whose gradient could be rectified")
        run = {name: _make_relu(upper, backward) for name, upper in UPPER.items()}
        outputs = evaluate(program.jaxpr, program.consts, jax.tree.leaves(arguments), relus=run)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return replaced


def evaluate(program, constants, arguments, *, relus=None, additions=None):
    """The outputs of a program, a `Jaxpr`.

    Args:
      relus: what is called in the place of a ReLU, by its name; then jitted functions and
        checkpoints are gone into. None for the ReLUs themselves.
      additions: variable of this program -> what is added to it as soon as it is computed.
    """
    additions = additions or {}
    values = {}

    def write(variables, results):
        for variable, value in zip(variables, results):
            values[variable] = value + additions[variable] if variable in additions else value

    write((*program.constvars, *program.invars), (*constants, *arguments))
    for equation in program.eqns:
        write(
            equation.outvars, _apply(equation, [_read(values, v) for v in equation.invars], relus)
        )
    return [_read(values, variable) for variable in program.outvars]


def inline(program, constants, shapes):
    """The same program, a `ClosedJaxpr`, with what is jitted or checkpointed written out in it."""
    opened = partial(evaluate, program, constants, relus={})
    return jax.make_jaxpr(lambda *arguments: opened(arguments))(*shapes)


def leads_to(program, source, target) -> bool:
    """Whether one variable of a program is computed from another one."""
    if isinstance(target, Literal):
        return False
    needed = {target}
    for equation in reversed(program.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return source in needed


def _read(values, variable):
    return variable.val if isinstance(variable, Literal) else values[variable]


def _apply(equation, operands, relus):
    name = equation.primitive.name
    if relus and (activation := relus.get(_relu_name(equation))):
        return [activation(*operands)]
    if relus is not None and name in OPENED:
        inner = equation.params[OPENED[name]]
        jaxpr, constants = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        return evaluate(jaxpr, constants, operands, relus=relus)
    if relus and any(map(_holds_relu, programs_of(equation))):
        raise UserError(f"a ReLU stands inside a {name}, where its gradient cannot be rectified")
    bound, source = equation.primitive.get_bind_params(equation.params), equation.source_info
    scope = source_info_util.current_name_stack() + source.name_stack
    with source_info_util.user_context(source.traceback, name_stack=scope):
        outputs = equation.primitive.bind(*operands, **bound)
    return outputs if equation.primitive.multiple_results else [outputs]


def _relu_name(equation) -> str | None:
    """The name of the ReLU that an operation is: a rule of derivation around a jitted function."""
    if equation.primitive.name != "custom_jvp_call":
        return None
    inner = equation.params["call_jaxpr"].eqns
    name = inner[0].params.get("name") if len(inner) == 1 else None
    return name if name in UPPER else None


def _holds_relu(program) -> bool:
    return any(
        _relu_name(equation) is not None or any(map(_holds_relu, programs_of(equation)))
        for equation in program.eqns
    )


def _make_relu(upper, backward):
    def forward(x):
        return jnp.clip(x, 0, upper), (x > 0) & (x < upper)

    relu = jax.custom_vjp(lambda x: forward(x)[0])
    relu.defvjp(forward, lambda inside, gradient: (backward(inside, gradient),))
    return relu
