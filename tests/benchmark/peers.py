"""What the tests of every peer have in common."""

import functools

import jax

from convnets.benchmark.workloads import create_batch, create_variables, create_workload, make_model

# Every family, small: name, image shape (None for its own).
NETWORKS = [
    ("linear", (12, 10, 3)),
    ("mlp", (12, 10, 3)),
    ("lenet1", None),
    ("lenet5", (32, 28, 3)),
    ("lenet5_1998", None),
    ("cifar_plain8", None),
    ("cifar_resnet8", None),
    ("cifar_resnet8_projection", None),
    ("resnet18", (48, 40, 3)),
    ("resnet50", (48, 40, 3)),
    ("alexnet", (100, 80, 3)),
]


@functools.cache
def ours(name, image_shape):
    """Workload, variables, images, our logits of them in evaluation, and in training."""
    workload = create_workload(name, 4, image_shape)
    variables, (images, _) = create_variables(workload), create_batch(workload)
    model = make_model(workload)

    @jax.jit
    def apply(variables, images):
        keys = {"dropout": jax.random.key(0)}
        trained, _ = model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=keys)
        return model.apply(variables, images, train=False), trained

    return workload, variables, images, *apply(variables, images)
