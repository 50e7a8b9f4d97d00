import importlib.metadata
import json

from convnets.benchmark.environment import count_cores, describe_hardware, describe_versions


def test_what_is_described_is_what_is_here():
    versions = describe_versions()
    assert versions["jax"] == importlib.metadata.version("jax")
    hardware = describe_hardware()
    assert hardware["cores"] == count_cores() >= 1
    assert hardware["processor"]
    assert len(hardware["devices"]) == 8  # as the tests' conftest asks for
    assert json.loads(json.dumps(hardware | versions)) == hardware | versions
