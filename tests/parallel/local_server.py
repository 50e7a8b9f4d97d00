"""A parameter server within this process: no other process, no waiting."""

from collections.abc import Callable

from convnets.parallel.gate import Gate
from convnets.parallel.parameter_server import Shard, apply_push, divide_push, paths_of
from convnets.parallel.workers import Fetched, join_fetched, mean_loss


class LocalServer:
    """The shards of a training in this process.

    Args:
      shards: from `create_shards`.
      update: from `make_update`.
      gate: where workers announce themselves.
    """

    def __init__(self, shards: list[Shard], update: Callable, gate: Gate):
        self.shards = list(shards)
        self.gate = gate
        self.enter, self.finish = gate.enter, gate.finish
        self._update = update
        self._paths = paths_of(shards)

    def fetch(self) -> Fetched:
        """What all shards have now."""
        return join_fetched(
            [(shard.counts.applied, shard.params, shard.batch_stats) for shard in self.shards]
        )

    def push(self, worker, number, versions, grads, batch_stats, measured) -> None:
        """Sends each shard its part, as the push of that number."""
        self.gate.announce(worker, number, measured)
        pushes = divide_push(
            self._paths, worker, number, versions, grads, batch_stats, mean_loss(measured)
        )
        self.shards = [
            apply_push(shard, push, self._update) for shard, push in zip(self.shards, pushes)
        ]
