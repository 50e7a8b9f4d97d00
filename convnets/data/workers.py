"""Worker processes that read ahead, by Grain."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np

from .sources import use_one_thread

READ_AHEAD = 2  # finished batches that wait in each worker


def map_in_processes(function: Callable[[int], dict], start: int, workers: int) -> Iterator[dict]:
    """`function(start)`, `function(start + 1)`, … in this order, computed ahead by processes.

    `function` has to be picklable, and returns a dict of arrays. Closing the iterator, or its
    garbage collection, ends the processes. An exception of `function` is raised here.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads its settings as flags of the command line
    steps = grain.MapDataset.range(start, sys.maxsize).map(function)
    # Grain would otherwise read 500 elements ahead, and an element is a batch here.
    in_turn = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    ahead = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=READ_AHEAD)
    iterator = iter(steps.to_iter_dataset(in_turn).mp_prefetch(ahead, worker_init_fn=_start_worker))
    try:
        for batch in iterator:
            # Out of the memory shared with the worker, which would be gone before the last batch.
            yield {key: np.array(value) for key, value in batch.items()}
    finally:
        iterator.close()
        # Grain leaves cycles that hold semaphores. They go now: while TensorFlow Datasets is being
        # imported, which replaces Python's import, their finalizers would fail.
        del iterator
        gc.collect()


def _start_worker(index, count):
    """Ctrl-C is for the main process, which ends the workers; and the cores are shared."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    if count > 1:
        use_one_thread()


def _follow_parent():
    """Ends this process with the main one; Grain leaves its workers behind when that is killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
