"""Batches on the device before they are asked for."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp

END = object()


def copy_to_device(batch):
    """The batch on the default device; a copy, where `jax.device_put` may alias a NumPy array."""
    return jax.tree.map(jnp.array, batch)


def prefetch(
    batches: Iterable | Callable[[int], Iterable], place: Callable = copy_to_device, depth: int = 2
) -> Iterator | Callable[[int], Iterator]:
    """`place(batch)` for each batch, in order, up to `depth` of them ahead, by a thread.

    Args:
      batches: what to read, in the thread; or a function from a step to that, as `batches` makes.
      place: puts a host batch on the devices, `CompiledStep.place_batch` for one. It should copy
        arrays that `batches` fills anew.
      depth: batches that wait on the device beside the one in use.

    Returns: a generator; for a function, a function to such generators. An exception in `batches`
    or `place` is raised where its batch would have come. Closing the generator closes `batches`
    too and ends the thread.

    >>> list(prefetch([1, 2, 3], place=lambda batch: 10 * batch))
    [10, 20, 30]
    """
    if depth < 1:
        raise ValueError(f"depth is at least 1, not {depth}")
    if callable(batches):
        return lambda start: _prefetch(iter(batches(start)), place, depth)
    return _prefetch(iter(batches), place, depth)


def _prefetch(iterator, place, depth):
    ready = queue.Queue(depth)
    stop = threading.Event()

    def fill():
        try:
            for batch in iterator:
                ready.put((place(batch), None))
                if stop.is_set():
                    return
            ready.put((END, None))
        except BaseException as error:  # raised again in the thread that asks for the batch
            ready.put((END, error))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            if batch is END:
                return
            yield batch
    finally:
        stop.set()
        while thread.is_alive():  # a full queue may hold it up
            with contextlib.suppress(queue.Empty):
                ready.get(timeout=0.01)
        thread.join()
