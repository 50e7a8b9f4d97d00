"""PyTorch's files made by hand, byte by byte, so that no test of reading them needs PyTorch."""

import io
import struct
import zipfile

LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


def name(module, function):
    return f"c{module}\n{function}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def row(*items):
    return b"(" + b"".join(items) + b"t"


def numbers(values):
    return row(*map(number, values))


def called(function, *arguments):
    return function + row(*arguments) + b"R"


def storage(kind, key, size, view=None, module="torch"):
    last = [] if view is None else [view]
    items = [text("storage"), name(module, kind), text(key), text("cpu"), number(size), *last]
    return row(*items) + b"Q"


def tensor(stored, offset, shape, strides, function="_rebuild_tensor_v2", *last):
    """A tensor: `stored` from `storage`, and whole numbers."""
    rest = (b"\x89", ordered({})) if function != "_rebuild_tensor" else ()
    return called(
        name("torch._utils", function),
        stored,
        number(offset),
        numbers(shape),
        numbers(strides),
        *rest,
        *last,
    )


def ordered(entries, start=None):
    """An ordered dict of what is given as bytes already, by name; or pairs of both as bytes."""
    start = name("collections", "OrderedDict") + b")R" if start is None else start
    pairs = [(text(k), v) for k, v in entries.items()] if isinstance(entries, dict) else entries
    return start + b"(" + b"".join(k + v for k, v in pairs) + b"u"


def plain(entries):
    return ordered(entries, start=b"}")


def pickled(value):
    return b"\x80\x02" + value + b"."


def archive(value, storages, folder="weights/", others=None, compression=zipfile.ZIP_STORED):
    """The bytes of today's format."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as entries:
        entries.writestr(f"{folder}data.pkl", pickled(value))
        for key, data in storages.items():
            entries.writestr(f"{folder}data/{key}", data)
        for path, data in (others or {"byteorder": b"little", "version": b"3\n"}).items():
            entries.writestr(folder + path, data)
    return file.getvalue()


def legacy(value, storages, little=b"\x88"):
    """The bytes of the format before PyTorch 1.6; `storages`: number of elements and bytes."""
    machine = pickled(plain({"little_endian": little}))
    keys = pickled(b"](" + b"".join(text(key) for key in storages) + b"e")
    rows = b"".join(struct.pack("<q", size) + data for size, data in storages.values())
    return LEGACY_START + machine + pickled(value) + keys + rows
