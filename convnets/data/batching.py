"""Batches: the examples of a step are a pure function of the seed and the step's number."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from convnets.errors import UserError

from .cropping import Box, draw_for_crops
from .sources import ArraySource, Source
from .splitting import seeded_order
from .workers import map_in_processes


def batch_indices(size: int, batch_size: int, step: int, *, seed: int = 0) -> np.ndarray:
    """Which of `size` examples make up the batch of a step, int64 `[B]`.

    Example `i` of step `s` is position `s*B + i` of the epochs laid end to end; each epoch is its
    own permutation of all examples, drawn from `seed` and its number. So a batch may span epochs,
    every example is seen once an epoch, and resuming needs the number of the step only.

    >>> np.sort(np.concatenate([batch_indices(6, 4, step) for step in range(3)]))
    array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    """
    first, last = step * batch_size, (step + 1) * batch_size
    parts = [
        _epoch_order(size, seed, epoch)[max(first - epoch * size, 0) : last - epoch * size]
        for epoch in range(first // size, (last - 1) // size + 1)
    ]
    return np.concatenate(parts)


@functools.lru_cache(maxsize=4)
def _epoch_order(size, seed, epoch):
    order = seeded_order(size, seed, epoch)
    order.flags.writeable = False
    return order


def batches(
    source: Source,
    batch_size: int,
    *,
    seed: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    crop: Callable[[np.ndarray, int, int], Box] | None = None,
) -> Callable[[int], Iterator[dict[str, np.ndarray]]]:
    """Endless training batches from the host.

    Args:
      source: what to draw from.
      batch_size: of the whole batch, over all processes.
      seed: of the order, and of the crops.
      process_index, process_count: a process gets its contiguous share `[B / process_count, …]`.
      workers: decode whole batches ahead in so many processes of Grain; 0: in this process, several
        images at a time. A script that asks for processes needs `if __name__ == "__main__":`, for
        they are spawned. A source in memory decodes nothing and uses none.
      crop: `(draws, height, width) -> box`, as `random_resized_crop` or a partial of it: the part
        of an image that is brought to the size of all, in place of its center. It is taken from
        `source.original`, and its draws depend on `seed` and the example's position in the run.

    Returns: a function from the number of a step to the iterator over the batches from that step
    on, `{"image": uint8 [B, H, W, C], "label": int32 [B]}`. The examples do not depend on
    `workers`, nor, taken together, on `process_count`. Close the iterator to end its processes.

    Raises: UserError for a batch size below 1, above the number of examples, or not divisible by
    the processes.

    >>> source = ArraySource(np.zeros((5, 1, 1, 1), np.uint8), np.arange(5))
    >>> from_step = batches(source, 2)
    >>> next(from_step(1))["label"] == source.labels[batch_indices(5, 2, 1)]
    array([ True,  True])
    """
    _check_batch_size(source, batch_size)
    share = _share(batch_size, process_index, process_count)
    if crop is not None:
        source = source.original
    read = _Reader(source, batch_size, seed, share, crop)

    def from_step(start: int) -> Iterator[dict[str, np.ndarray]]:
        if workers and not isinstance(source, ArraySource):
            return map_in_processes(read, start, workers)
        return _count_up(read, start)

    return from_step


class _Reader:
    """Reads a process's share of the batch of a step; a class because it travels to workers."""

    def __init__(self, source, batch_size, seed, share, crop):
        self.source, self.batch_size, self.seed, self.share = source, batch_size, seed, share
        self.crop = crop

    def __call__(self, step):
        size = self.batch_size
        indices = batch_indices(len(self.source), size, step, seed=self.seed)[self.share]
        if self.crop is None:
            return self.source.batch(indices)
        draws = draw_for_crops(self.seed, step * size, size)[self.share]
        return self.source.batch(indices, [functools.partial(self.crop, each) for each in draws])


def _count_up(read, start):
    while True:
        yield read(start)
        start += 1


def index_batches(
    source: Source,
    batch_size: int,
    *,
    seed: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Callable[[int], Iterator[np.ndarray]]:
    """The batches of `batches` as int32 `[B]`: which of the source's examples make them up.

    They are for a step that is compiled with the examples on its devices, see `parallel.compile`.
    A process gets its contiguous share, as in `batches`.

    Raises: UserError for a batch size below 1, above the number of examples, or not divisible by
    the processes.

    >>> source = ArraySource(np.zeros((6, 1, 1, 1), np.uint8), np.arange(6))
    >>> next(index_batches(source, 4)(1)) == batch_indices(6, 4, 1)
    array([ True,  True,  True,  True])
    """
    _check_batch_size(source, batch_size)
    share = _share(batch_size, process_index, process_count)

    def read(step):
        indices = batch_indices(len(source), batch_size, step, seed=seed)[share]
        return indices.astype(np.int32)

    return lambda start: _count_up(read, start)


def resident_batches(
    source: ArraySource, batch_size: int, *, seed: int = 0, sharding=None, replicated=None
) -> Callable[[int], Iterator[dict[str, jax.Array]]]:
    """The batches of `batches`, gathered on the device from examples that lie there.

    The examples travel once, now; then only `[B]` int32 indices a step.

    Args:
      source: in memory, and small enough for the memory of each device.
      batch_size: of the whole batch.
      seed: of the order.
      sharding: the `jax.sharding.Sharding` of a batch along its axis; None: the default device.
      replicated: the `Sharding` of the examples, whole on every device of `sharding`.

    Returns: a function from the number of a step to the iterator over the batches from that step
    on, as `jax.Array`s on the devices.

    Raises: UserError for a batch size below 1 or above the number of examples.
    """
    _check_batch_size(source, batch_size)
    if not isinstance(source, ArraySource):
        raise TypeError(f"a source in memory is needed, not {source!r}")
    examples = {
        "image": _put(source.images, replicated),
        "label": _put(source.labels, replicated),
    }
    take = jax.jit(_take, out_shardings=sharding)

    def from_step(start: int) -> Iterator[dict[str, jax.Array]]:
        while True:
            indices = batch_indices(len(source), batch_size, start, seed=seed)
            yield take(examples, _put(indices.astype(np.int32), sharding))
            start += 1

    return from_step


def _take(examples, indices):
    return jax.tree.map(lambda array: jnp.take(array, indices, axis=0, mode="clip"), examples)


def _put(array, sharding):
    if sharding is None:
        return jnp.asarray(array)
    # Every process knows the whole array and places its own part, on one host or on many.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def evaluation_batches(
    source: Source, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Every example once, in order, in batches of one shape.

    The last batch is filled with its last example; `mask`, bool `[B]`, is false there. A process
    gets its contiguous share of each batch, as in `batches`.

    >>> source = ArraySource(np.zeros((3, 1, 1, 1), np.uint8), np.arange(3))
    >>> [batch["mask"].tolist() for batch in evaluation_batches(source, 2)]
    [[True, True], [True, False]]
    """
    if batch_size < 1:
        raise UserError(f"the batch size is at least 1, not {batch_size}")
    share = _share(batch_size, process_index, process_count)
    return _in_order(source, batch_size, share)


def _in_order(source, batch_size, share):
    for start in range(0, len(source), batch_size):
        positions = np.arange(start, start + batch_size)[share]
        batch = source.batch(np.minimum(positions, len(source) - 1))
        yield {**batch, "mask": positions < len(source)}


def _check_batch_size(source, batch_size):
    if batch_size < 1:
        raise UserError(f"the batch size is at least 1, not {batch_size}")
    if batch_size > len(source):
        raise UserError(
            f"the batch size {batch_size} is larger than the train split of {len(source)} examples"
        )


def _share(batch_size, process_index, process_count):
    if batch_size % process_count:
        raise UserError(f"{process_count} processes do not divide the batch size {batch_size}")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count}")
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)
