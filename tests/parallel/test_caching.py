"""Programs kept from one process to the next change no bit, and cost a run nothing."""

import warnings

import jax
import pytest

from convnets.parallel import cache_compilations
from convnets.training import journal
from tests import shell
from tests.test_resume import arrays_of

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_enable_compilation_cache",
)


@pytest.fixture
def untold(monkeypatch):
    """JAX as it is where nobody has told it of a cache."""
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    for variable in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(variable, raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    with warnings.catch_warnings():
        yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_the_users_own(untold, tmp_path):
    untold.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_compilations()
    (folder,) = (tmp_path / "convnets" / "jax").iterdir()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.1
    untold.delenv("XDG_CACHE_HOME")
    untold.setenv("HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    cache_compilations()
    assert jax.config.jax_compilation_cache_dir == str(
        tmp_path / ".cache" / "convnets" / "jax" / folder.name
    )


def test_what_jax_has_been_told_holds(untold, tmp_path):
    untold.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    cache_compilations()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "told")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    cache_compilations()
    assert jax.config.jax_compilation_cache_dir is None
    jax.config.update("jax_enable_compilation_cache", True)
    untold.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1.0")
    cache_compilations()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1.0


@pytest.mark.parametrize("caches", ["file", "relative/folder"])
def test_without_a_folder_nothing_is_kept(untold, tmp_path, caches):
    (tmp_path / "file").touch()
    untold.chdir(tmp_path)
    untold.setenv("XDG_CACHE_HOME", str(tmp_path / caches) if caches == "file" else caches)
    cache_compilations()
    assert jax.config.jax_compilation_cache_dir is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_program_from_the_cache_computes_the_same_bits(monkeypatch, tmp_path):
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def train(name, *changes, **environment):
        workdir = tmp_path / name
        out, error = shell.run(
            *("train", "--model", "lenet1", "--workdir", workdir),
            *("--steps", 12, "--batch-size", 32, "--devices", 2),
            *changes,
            **environment,
        )
        assert error == ""
        assert 0 < journal.read_config(workdir)["compile_seconds"] < 300
        (said,) = (x for x in out.splitlines() if x.startswith(("compiled in", "from the cache")))
        return said, arrays_of(workdir)

    def same(a, b):
        return a.keys() == b.keys() and all(a[path].tobytes() == b[path].tobytes() for path in a)

    off = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    said, (expected, _) = train("off", **off)
    assert said.startswith("compiled in")
    assert not (tmp_path / "cache").exists()

    said, (first, _) = train("first")
    assert said.startswith("compiled in")
    assert same(first, expected)
    entries = list((tmp_path / "cache").rglob("*-cache"))
    assert entries

    said, (second, _) = train("second")
    assert said.startswith("from the cache in")
    assert same(second, expected)

    for entry in entries:  # as a kill or a full disk leaves them
        entry.write_bytes(entry.read_bytes()[:-1000])
    said, (third, _) = train("third")
    assert said.startswith("compiled in")
    assert same(third, expected)
