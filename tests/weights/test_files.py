"""Weight files: what PyTorch and safetensors write comes back right, anything else is refused."""

import contextlib
import json
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from convnets.errors import UserError
from convnets.weights.files import read_state_dict, write_safetensors
from convnets.weights.pickles import Storage, Tensor
from convnets.weights.torch_files import MAGIC, _build

from . import torch_bytes as made

FLOATS = np.arange(24, dtype=np.float32)
LONGS = np.array([7, -1], np.int64)
HALVES = np.array([0.5, -2.0, 3.0], np.float16)
BRAINS = np.array([1.5, -0.25], ml_dtypes.bfloat16)
TRUTHS = np.array([True, False, True])
SHORTS = np.array([65535, 3], np.uint16)
ROWS = {
    "0": FLOATS,
    "1": LONGS,
    "2": HALVES,
    "3": BRAINS,
    "4": TRUTHS,
    "5": SHORTS,
    "6": np.zeros(0, np.float32),
}
FLOAT = made.storage("FloatStorage", "0", 24)
EXPECTED = {
    "conv.weight": FLOATS.reshape(2, 3, 2, 2),
    "turned": FLOATS[2:14].reshape(3, 4).T,
    "tied": FLOATS[20:],
    "expanded": np.broadcast_to(FLOATS[3:6], (4, 3)),
    "parameter": FLOATS[:2],
    "count": LONGS[1],
    "half": HALVES,
    "brain": BRAINS,
    "truth": TRUTHS,
    "short": SHORTS,
    "empty": np.zeros((0, 4), np.float32),
}


def entries(untyped=True):
    half = made.storage("HalfStorage", "2", 3)
    parameter = made.called(
        made.name("torch._utils", "_rebuild_parameter"),
        made.tensor(FLOAT, 0, [2], [1]),
        b"\x88",
        made.ordered({}),
    )
    result = {
        "conv.weight": made.tensor(FLOAT, 0, [2, 3, 2, 2], [12, 4, 2, 1]),
        "turned": made.tensor(FLOAT, 2, [4, 3], [1, 4]),
        "tied": made.tensor(FLOAT, 20, [4], [1]),
        "expanded": made.tensor(FLOAT, 3, [4, 3], [0, 1]),
        "parameter": parameter,
        "count": made.tensor(made.storage("LongStorage", "1", 2), 1, [], []),
        "half": made.tensor(half, 0, [3], [1], "_rebuild_tensor"),
        "brain": made.tensor(made.storage("BFloat16Storage", "3", 2), 0, [2], [1]),
        "truth": made.tensor(made.storage("BoolStorage", "4", 3), 0, [3], [1]),
        "empty": made.tensor(made.storage("FloatStorage", "6", 0), 0, [0, 4], [4, 1]),
    }
    if untyped:
        stored = made.storage("UntypedStorage", "5", 4, module="torch.storage")
        of_short = made.name("torch", "uint16")
        result["short"] = made.tensor(stored, 0, [2], [1], "_rebuild_tensor_v3", of_short)
    return result


def as_archive(value, **options):
    return made.archive(value, {key: x.tobytes() for key, x in ROWS.items()}, **options)


def as_legacy(value, **options):
    met = {key: x for key, x in ROWS.items() if made.text(key) + made.text("cpu") in value}
    rows = {key: (x.size, x.tobytes()) for key, x in met.items()}
    return made.legacy(value, rows, **options)


FORMATS = {"archive": as_archive, "legacy": as_legacy}


@pytest.fixture
def refused(tmp_path):
    """Writes bytes, expects a refusal that names the file, and returns what it says."""

    def check(data):
        path = tmp_path / "weights.pt"
        path.write_bytes(data)
        with pytest.raises(UserError) as caught:
            read_state_dict(path)
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message
        return message

    return check


def require_equal(state_dict, expected):
    assert set(state_dict) == set(expected)
    for name, array in expected.items():
        assert state_dict[name].dtype == array.dtype, name
        assert state_dict[name].shape == array.shape, name
        np.testing.assert_array_equal(state_dict[name], array, err_msg=name)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_torch_files_made_by_hand(tmp_path, kind, wrapper):
    path = tmp_path / "weights"  # the content tells what it is
    value = made.ordered(entries(untyped=kind == "archive"))
    if wrapper is not None:
        other = made.tensor(FLOAT, 0, [1], [1])
        optimizer = made.plain([(made.number(0), other)])  # whose keys are numbers
        value = made.plain({"epoch": made.number(3), wrapper: value, "optimizer": optimizer})
    path.write_bytes(FORMATS[kind](value))
    require_equal(
        read_state_dict(path),
        {k: v for k, v in EXPECTED.items() if kind == "archive" or k != "short"},
    )


def test_entries_of_a_storage_share_memory(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(as_archive(made.ordered(entries())))
    state_dict = read_state_dict(path)
    assert np.shares_memory(state_dict["conv.weight"], state_dict["tied"])


def test_views_of_storages_in_the_oldest_files(tmp_path):
    path = tmp_path / "weights"
    view = made.row(made.text("9"), made.number(4), made.number(8))
    stored = made.storage("FloatStorage", "0", 24, view)
    value = made.ordered({"x": made.tensor(stored, 1, [2], [3], "_rebuild_tensor")})
    path.write_bytes(as_legacy(value))
    assert read_state_dict(path)["x"].tolist() == [5, 8]


def test_the_name_of_data_parallel_goes_where_all_have_it(tmp_path):
    path = tmp_path / "weights"
    one = made.tensor(FLOAT, 0, [1], [1])
    path.write_bytes(as_archive(made.ordered({"module.a": one, "module.module.b": one})))
    assert list(read_state_dict(path)) == ["a", "module.b"]
    path.write_bytes(as_archive(made.ordered({"module.a": one, "b": one})))
    assert list(read_state_dict(path)) == ["module.a", "b"]


def evil(module, function):
    return made.called(made.name(module, function), made.text("touch evil"))


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_run(refused, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    wholes = [evil("os", "system"), evil("builtins", "eval"), evil("torch", "load")]
    wholes += [made.plain({"x": evil("posix", "system")})]
    wholes += [made.text("os") + made.text("system") + b"\x93" + made.row(made.text("x")) + b"R"]
    for value in wholes:
        assert "asks for" in refused(FORMATS[kind](value))
    assert "torch.nn.modules.linear.Linear" in refused(
        FORMATS[kind](made.name("torch.nn.modules.linear", "Linear") + b")\x81")
    )
    called_number = made.number(1) + b")R"
    no_argument = made.name("torch", "FloatStorage") + b")R"
    for value in (called_number, no_argument, b"}]b", b"]}b", b"(i"):
        refused(FORMATS[kind](value))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (made.tensor(FLOAT, 0, [25], [1]), "'x'"),
        (made.tensor(FLOAT, 1, [24], [1]), "'x'"),
        (made.tensor(FLOAT, 24, [], []), "'x'"),
        (made.tensor(FLOAT, 0, [5, 5], [5, 1]), "'x'"),
        (made.tensor(FLOAT, 0, [2], [24]), "'x'"),
        (made.tensor(FLOAT, 0, [2**40], [0]), "'x'"),
        (made.tensor(FLOAT, 0, [2**62, 2**62], [0, 0]), "'x'"),
        (made.tensor(FLOAT, 0, [2**62, 0], [1, 1]), "'x'"),
        (made.tensor(FLOAT, 2**63, [1], [1]), "'x'"),
        (made.tensor(FLOAT, -1, [1], [1]), "tensor in an unknown way"),
        (made.tensor(FLOAT, 0, [-1], [1]), "tensor in an unknown way"),
        (made.tensor(FLOAT, 0, [2], [-1]), "tensor in an unknown way"),
        (made.tensor(FLOAT, 0, [2, 2], [1]), "tensor in an unknown way"),
        (made.tensor(made.number(0), 0, [2], [1]), "tensor in an unknown way"),
        (made.tensor(made.storage("FloatStorage", "0", 2**50), 0, [2**50], [1]), ""),
        (made.tensor(made.storage("FloatStorage", "nothing", 4), 0, [4], [1]), ""),
        (made.tensor(made.storage("DoubleStorage", "0", 24), 0, [1], [1]), ""),
        (made.tensor(made.storage("QInt8Storage", "0", 24), 0, [1], [1]), "QInt8Storage"),
        (made.number(3), "'x' is no tensor but int"),
        (made.plain({}), "'x' is no tensor but dict"),
        (b"Vx\n", "instruction UNICODE"),
    ],
)
def test_lies_of_a_pickle(refused, kind, lie, message):
    assert message in refused(FORMATS[kind](made.ordered({"x": lie})))


def test_a_storage_is_of_one_size(refused):
    other = made.tensor(made.storage("FloatStorage", "0", 20), 0, [2], [1])
    value = made.ordered({"x": made.tensor(FLOAT, 0, [2], [1]), "y": other})
    assert "storage 0 is described in two ways" in refused(as_archive(value))


def test_pickles_cannot_take_memory_or_time(refused, tmp_path):
    huge_text = b"\x8d" + struct.pack("<Q", 2**62) + b"x"
    huge_array = b"\x96" + struct.pack("<Q", 2**40)
    for value in (huge_text, huge_array, b"N" * 1000 + b"t" * 2000):
        refused(as_archive(value))
    far = b"r\xff\xff\xff\xff"  # a place in the memo for which other readers make 64 GiB of room
    path = tmp_path / "weights"
    path.write_bytes(as_archive(made.ordered({"x": made.tensor(FLOAT, 0, [1], [1])}) + far))
    assert list(read_state_dict(path)) == ["x"]
    deep = b")" + b"\x85" * 200_000  # a tuple in a tuple in …, as the key of a dict
    assert "no text or integer" in refused(as_archive(b"}" + deep + b"Ns"))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_no_state_dict(refused, kind):
    one = made.tensor(FLOAT, 0, [1], [1])
    twice = [(made.text("x"), one), (made.text("x"), one)]
    assert "'x' twice" in refused(FORMATS[kind](made.ordered(twice)))
    assert "type list" in refused(FORMATS[kind](b"]"))
    assert "type Tensor" in refused(FORMATS[kind](one))
    assert "entry 3 is no tensor" in refused(FORMATS[kind](made.plain([(made.number(3), one)])))
    both = {"model": made.ordered({"x": one}), "state_dict": made.ordered({"x": one})}
    assert "state_dict, model" in refused(FORMATS[kind](made.plain(both)))


def test_archives_of_other_kinds(refused):
    value = made.ordered({"x": made.tensor(FLOAT, 0, [1], [1])})
    assert "no tensor" not in refused(as_archive(value, folder="a/b_"))
    assert "other order" in refused(as_archive(value, others={"byteorder": b"big"}))
    assert "other order" in refused(as_legacy(value, little=b"\x89"))
    assert "TorchScript" in refused(as_archive(value, others={"constants.pkl": b""}))
    assert "compressed" in refused(as_archive(value, compression=zipfile.ZIP_DEFLATED))
    assert "one data.pkl" in refused(as_archive(value, others={"code/data.pkl": b""}))
    assert "not one of PyTorch's" in refused(made.pickled(value))
    assert "'8' that belongs to no" in refused(made.legacy(b"}", {"8": (1, bytes(4))}))
    assert "end is missing" in refused(made.legacy(value, {"0": (24, bytes(95))}))
    assert "end is missing" in refused(made.legacy(value, {"0": (-1, bytes(96))}))


def test_files_of_other_kinds(refused, tmp_path):
    assert "empty" in refused(b"")
    assert "web page" in refused(b"\n<!DOCTYPE html><html>Not found</html>")
    assert "git LFS" in refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    assert "Keras" in refused(b"\x89HDF\r\n\x1a\n")
    assert "neither safetensors" in refused(b"weights")
    with pytest.raises(UserError, match="folder"):
        read_state_dict(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        read_state_dict(tmp_path / "nothing.pt")


def safetensors_bytes(header, data):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def test_safetensors(tmp_path):
    path = tmp_path / "weights.bin"
    written = {k: v for k, v in EXPECTED.items() if k != "expanded"}
    write_safetensors(path, written | {"module.big": FLOATS.astype(">f4")})
    require_equal(read_state_dict(path), written | {"module.big": FLOATS})
    assert [file.name for file in tmp_path.iterdir()] == ["weights.bin"]
    save_file({"module.x": FLOATS}, path, metadata={"format": "pt"})  # by the package itself
    require_equal(read_state_dict(path), {"x": FLOATS})


def test_safetensors_that_lie(refused):
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    inner = json.dumps(one)
    twice = f'{{"x": {inner}, "x": {inner}}}'.encode()
    assert "'x' twice" in refused(safetensors_bytes(twice, bytes(4)))
    refused(safetensors_bytes({"x": one}, bytes(3)))
    refused(safetensors_bytes({"x": one | {"data_offsets": [0, 8]}}, bytes(8)))
    refused(safetensors_bytes({"x": one | {"shape": [2**62, 4]}}, bytes(4)))
    refused(safetensors_bytes(b"{]", bytes(4)))
    small = {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}
    assert "'x' of type F8_E4M3" in refused(safetensors_bytes({"x": small}, bytes(4)))


def test_writing_refuses_and_leaves_nothing(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"before")
    for wrong in ({"x": np.array(["a"])}, {"x": object()}, {3: FLOATS}):
        with pytest.raises(UserError, match="cannot write"):
            write_safetensors(path, wrong)
    with pytest.raises(UserError, match="cannot write"):
        write_safetensors(tmp_path / "none" / "x", {"x": FLOATS})
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_safetensors(tmp_path / "folder", {"x": FLOATS})
    (tmp_path / "folder").rmdir()
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def attack(path, data, rng, times):
    """Truncates and spoils a file; yields what is still read of it. Only UserErrors may come."""
    for _ in range(times):
        spoiled = bytearray(data)
        if rng.random() < 0.3:
            del spoiled[rng.integers(len(data)) :]
        for _ in range(rng.integers(1, 4)):
            if spoiled:
                spoiled[rng.integers(len(spoiled))] ^= 1 << rng.integers(8)
        path.write_bytes(spoiled)
        with contextlib.suppress(UserError):
            yield read_state_dict(path)


def test_spoiled_files_are_refused_or_right(tmp_path):
    path, rng = tmp_path / "weights", np.random.default_rng(0)
    survivors = 0
    for state_dict in attack(path, as_archive(made.ordered(entries())), rng, 600):
        require_equal(state_dict, EXPECTED)  # a zip has checksums
        survivors += 1
    assert survivors > 10
    for _ in attack(path, as_legacy(made.ordered(entries(untyped=False))), rng, 600):
        pass
    write_safetensors(path, EXPECTED)
    for _ in attack(path, path.read_bytes(), rng, 600):
        pass


@pytest.mark.parametrize("kind", FORMATS)
def test_files_that_torch_wrote(tmp_path, kind):
    torch = pytest.importorskip("torch")
    path, today = tmp_path / "weights.pt", kind == "archive"
    base = torch.arange(24.0)
    tensors = {
        "turned": base[2:14].view(3, 4).t(),
        "tied": base[20:],
        "expanded": base[3:6].expand(4, 3),
        "count": torch.tensor([7, -1])[1],
        "half": torch.tensor(HALVES),
        "brain": torch.tensor([1.5, -0.25]).bfloat16(),
        "truth": torch.tensor(TRUTHS),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(base[:2]),
    }
    tensors |= {"short": torch.tensor(SHORTS)} if today else {}
    expected = {name: EXPECTED[name] for name in tensors}
    for protocol in (2, 4):
        torch.save(
            {"model": tensors, "epoch": 3},
            path,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=today,
        )
        require_equal(read_state_dict(path), expected)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for state_dict in (network.state_dict(), torch.nn.DataParallel(network).state_dict()):
        torch.save(state_dict, path, _use_new_zipfile_serialization=today)
        require_equal(
            read_state_dict(path), {k: v.numpy() for k, v in network.state_dict().items()}
        )
    written = path.read_bytes()
    for spoiled in attack(path, written, np.random.default_rng(1), 200):
        if today:
            require_equal(spoiled, {k: v.numpy() for k, v in network.state_dict().items()})


def test_keys_and_shapes_that_would_break_the_reader(tmp_path):
    """A key as deep as Python's stack, and a tensor of more dimensions than there are."""
    path = tmp_path / "deep.pth"
    head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {}, {})]
    path.write_bytes(b"".join(head) + b"\x80\x02](" + b")" + b"\x85" * 3_000_000 + b"e.")
    with pytest.raises(UserError, match="no list of texts"):
        read_state_dict(path)
    huge = Tensor(Storage("0", "float32", 1, 0), "float32", 0, (2**2000,) * 100, (0,) * 100)
    with pytest.raises(ValueError, match="100 dimensions"):
        _build(huge, bytes(4))


def test_written_files_have_the_permissions_of_others(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, {"a": np.ones(2, np.float32)})
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
