"""What each of two processes with two devices does in the tests of a model that is sharded over
the devices of each, and whose optimizer's state is sharded over all four.

python -m tests.parallel.sharded_member FOLDER COORDINATOR COUNT INDEX
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from convnets import parallel
from convnets.parallel import placement

from . import member

SHARDED = {"rules": [("*/conv?/kernel", (None, None, None, "model"))], "shard_optimizer": True}
SIDE = 64


def gather_large_arrays(mesh) -> dict:
    """Of how many arrays whole copies lay on devices while a tree of six was gathered, and how many
    bytes a device had at most besides its shards; and whether the values are right."""
    axes = ["data", "model", ("data", "model")]
    specs = [(axis, None) for axis in axes] + [(None, axis) for axis in axes]
    shardings = [jax.NamedSharding(mesh, jax.P(*spec)) for spec in specs]
    values = jnp.arange(SIDE * SIDE, dtype=jnp.float32).reshape(SIDE, SIDE)
    tree = jax.jit(lambda: [values + n for n in range(6)], out_shardings=shardings)()
    reshard, held = placement._reshard, []
    before = most_bytes()

    def noting(x, sharding):
        whole = jax.block_until_ready(reshard(x, sharding))
        held.append(most_bytes() - before)
        return whole

    placement._reshard = noting
    found = parallel.gather(tree)
    placement._reshard = reshard
    right = [np.array_equal(x, np.asarray(values) + n) for n, x in enumerate(found)]
    return {"copies": np.array(len(held)), "most": np.array(max(held)), "right": np.array(right)}


def most_bytes() -> int:
    """What a device holds at most of the arrays that all processes make up together."""
    arrays = [x for x in jax.live_arrays() if not x.is_fully_addressable]
    return max(parallel.bytes_per_device(arrays).values())


def main(folder, coordinator, count, index):
    folder, count, index = Path(folder), int(count), int(index)
    parallel.connect(coordinator, count, index, timeout=120)
    mesh = parallel.create_mesh(model=2)
    np.savez(folder / f"gathered{index}.npz", **gather_large_arrays(mesh))
    workdir = folder / ("run" if index == 0 else "nowhere")
    begun = member.fit(workdir, mesh=mesh, **SHARDED)
    np.savez(folder / f"begun{index}.npz", **member.result_arrays(begun))
    ended = member.fit(workdir, steps=member.LAST, resume=True, mesh=mesh, **SHARDED)
    np.savez(folder / f"ended{index}.npz", **member.result_arrays(ended))
    (folder / f"ready{index}").touch()
    parallel.wait_for_others()


if __name__ == "__main__":
    main(*sys.argv[1:])
