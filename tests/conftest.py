"""Strict everywhere: warnings are errors, no silent rank promotion, eight CPU devices.

Most of a test's time is its compilation. Machine code is optimized a little only, unless
`XLA_FLAGS` says another level; the programs, and what XLA fuses in them, are the same.
"""

import gc
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
for flag in ("--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=1"):
    flags = os.environ.get("XLA_FLAGS", "")
    if flag.split("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()
CACHE = Path(__file__).parents[1] / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ["MPLBACKEND"] = "Agg"

import jax
import pytest

# Few tests and long ones, mostly of whole processes.
LONG = ["experiments", "downpour", "launching", "processes", "resume", "notebooks", "cli"]

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """Long files first: with one begun last, all workers but its own would wait in the end."""
    first = [f"test_{name}.py" for name in LONG]
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else 99)


def pytest_collection_finish():
    """Tracing makes many small objects; Python would go through all of them every few thousand."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def memory():
    """Programs of one file are of no use to the next; kept, they would take gigabytes."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def shared():
    """The folder of real data and reference outputs, named by `CONVNETS_SHARED`."""
    folder = os.environ.get("CONVNETS_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the folder named by CONVNETS_SHARED")
    return Path(folder)
