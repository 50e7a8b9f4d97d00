"""What JAX has no public names for is there, or is missed in one line."""

import subprocess
import sys

import pytest
from jax._src.clusters import ClusterEnv

from convnets import UserError, parallel
from convnets.launching import find_free_port
from convnets.parallel import jax_internals

ALONE = """
import sys
from convnets import parallel
from convnets.parallel.processes import _process_group
parallel.connect(sys.argv[1], 1, 0)
import jax
group = _process_group()
group._set("alive/0", "again")  # as often as one likes
group._set("left/0", "once")
group._set("left/0", "twice")
assert group.decide(lambda: {"step": 3}) == {"step": 3}
assert group._get("left/0") == "once", group._get("left/0")
assert group._get("left/1") is None
assert list(group._signs()) == [0]
group.wait_for_others()
assert jax.numpy.ones(3).sum() == 3
group.failed = "abandoned" in sys.argv
print("done")
"""


@pytest.mark.parametrize("how", ["", "abandoned"])
def test_a_connected_process_has_its_store_and_ends(how):
    command = [sys.executable, "-W", "error", "-c", ALONE, f"127.0.0.1:{find_free_port()}", how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")


def test_another_jax_is_a_warning_to_one_process_and_an_error_to_several(monkeypatch):
    monkeypatch.setattr(ClusterEnv, "auto_detect_unset_distributed_params", lambda address: None)
    with pytest.warns(UserWarning, match="no cluster is looked for: JAX .* is not supported for"):
        assert parallel.detect_cluster() == (None,) * 4
    with pytest.raises(UserError, match="unexpected keyword argument .*; 0.10.2 and 0.12.0 are"):
        parallel.connect("127.0.0.1:8476", process_id=0)
    monkeypatch.delattr(ClusterEnv, "auto_detect_unset_distributed_params")
    with pytest.raises(UserError, match="has no attribute 'auto_detect"):
        jax_internals.detect_cluster("127.0.0.1:8476", None, 0, timeout=1)
