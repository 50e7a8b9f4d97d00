"""tfrecord to array_record without TensorFlow: the same records in files with random access."""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from convnets.errors import UserError


def convert_to_array_record(folder: Path) -> bool:
    """Writes a prepared set's records as array_record beside its tfrecord files.

    The records are copied as they are, shard by shard, and counted against `dataset_info.json`,
    which lists the new format only after every shard is whole.

    Returns: False, having done nothing, if the set is there as array_record already.

    Raises: UserError for another format than tfrecord, and for a file cut off or with other records
    than its set says.
    """
    info_path = folder / "dataset_info.json"
    info = json.loads(info_path.read_text())
    formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]
    if "array_record" in formats:
        return False
    if "tfrecord" not in formats:
        raise UserError(f"{folder} holds {', '.join(formats)}; expected array_record or tfrecord")
    for split in info["splits"]:
        lengths = [int(length) for length in split["shardLengths"]]
        for shard, length in enumerate(lengths):
            end = f"-{shard:05d}-of-{len(lengths):05d}"
            start = f"{info['name']}-{split['name']}."
            _convert_shard(
                folder / f"{start}tfrecord{end}", folder / f"{start}array_record{end}", length
            )
    info["alternativeFileFormats"] = [*formats[1:], "array_record"]
    unfinished = info_path.with_suffix(".incomplete")
    unfinished.write_text(json.dumps(info, indent=2))
    os.replace(unfinished, info_path)
    return True


def _convert_shard(source, target, length):
    from array_record.python.array_record_module import ArrayRecordWriter

    unfinished = target.with_name(f"incomplete.{target.name}")
    writer = ArrayRecordWriter(
        str(unfinished), "group_size:1"
    )  # TFDS's setting: fast random access
    count = 0
    try:
        for record in read_tfrecord(source):
            writer.write(record)
            count += 1
        if count != length:
            raise UserError(f"{source} has {count} records; its set says {length}")
    finally:
        writer.close()
        if count != length:
            unfinished.unlink(missing_ok=True)
    os.replace(unfinished, target)


def read_tfrecord(path) -> Iterator[bytes]:
    """The records of a tfrecord file, in order.

    Each is stored as its length (8 bytes, little-endian), 4 bytes of checksum, the record, 4 bytes
    of checksum. The lengths have to add up to the file; the checksums are not computed.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            while header := file.read(12):
                length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else size
                if length + 4 > size - file.tell():
                    raise UserError(f"{path} is truncated or damaged")
                yield file.read(length)
                file.seek(4, os.SEEK_CUR)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
