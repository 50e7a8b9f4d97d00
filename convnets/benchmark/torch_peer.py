"""The same networks in PyTorch, at its best on this machine."""

import functools
import time
import warnings

import jax
import numpy as np

from .environment import count_cores
from .timing import Contestant, count_steps, time_steps
from .torch_network import build_network, import_torch
from .workloads import DECAY, MOMENTUM, RATE, Workload, create_batch, create_variables

CALIBRATION = 0.3  # seconds for each form that is tried


def start(workload: Workload) -> Contestant:
    """PyTorch ready to run, in whichever of its forms a short trial found the fastest.

    Training runs eagerly, contiguous or channels last, with the fused SGD; inference besides traced
    and frozen. bfloat16 is `torch.autocast`.

    Raises: UserError without PyTorch, or for a model that has no peer.
    """
    torch = import_torch()
    torch.set_num_threads(count_cores())
    variables, batch = create_variables(workload), create_batch(workload)
    forms = {"contiguous": {}, "channels_last": {"channels_last": True}}
    if workload.mode == "infer":
        forms |= {f"{name}, frozen": form | {"frozen": True} for name, form in forms.items()}
    built = {}
    for name, form in forms.items():
        begin = time.perf_counter()
        run = prepare(workload, variables, batch, **form)
        run(1)
        built[name] = (run, time.perf_counter() - begin)
    fastest = find_fastest({name: run for name, (run, _) in built.items()})
    return Contestant("torch", built[fastest][0], fastest, built[fastest][1])


def find_fastest(runs: dict) -> str:
    """The name of the one whose steps take the least time, in the better of two short turns.

    >>> find_fastest({"slow": lambda n: time.sleep(0.03 * n), "fast": lambda n: time.sleep(n / 99)})
    'fast'
    """
    seconds = {name: [] for name in runs}
    steps = {name: count_steps(run, CALIBRATION) for name, run in runs.items()}
    for _ in range(2):
        for name, run in runs.items():
            seconds[name].append(time_steps(run, steps[name]) / steps[name])
    return min(seconds, key=lambda name: min(seconds[name]))


def version() -> str:
    """PyTorch's version."""
    return import_torch().__version__


def prepare(workload: Workload, variables, batch, *, channels_last=False, frozen=False):
    """`run(steps)` of a network of its own, that starts from our variables."""
    torch = import_torch()
    device = torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = build_network(workload, variables).to(device, memory_format=layout)
    images, labels = batch
    images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    images = images.to(device, memory_format=layout)
    labels = torch.from_numpy(labels).long().to(device)
    half = functools.partial(
        torch.autocast,
        device.type,
        dtype=torch.bfloat16,
        enabled=workload.precision == "bfloat16",
        cache_enabled=not frozen,
    )
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    if workload.mode == "train":
        return _training(network, images, labels, half, wait)
    network.eval()
    if frozen:
        network = _freeze(network, images, half)
    return _inference(network, images, half, wait)


def _training(network, images, labels, half, wait):
    torch = import_torch()
    network.train()
    named = list(network.named_parameters())
    kernels = [value for name, value in named if value.ndim > 1]
    others = [value for name, value in named if value.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": DECAY}, {"params": others}],
        lr=RATE,
        momentum=MOMENTUM,
        fused=True,
    )

    def run(steps):
        for _ in range(steps):
            with half():
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        wait()

    return run


def _inference(network, images, half, wait):
    def run(steps):
        with import_torch().inference_mode(), half():
            for _ in range(steps):
                network(images)
        wait()

    return run


def _freeze(network, images, half):
    jit = import_torch().jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still the fastest
        with import_torch().inference_mode(), half():
            frozen = jit.optimize_for_inference(jit.freeze(jit.trace(network, images)))
            for _ in range(3):  # it compiles what it has seen twice
                frozen(images)
    return frozen
