"""Small sets on disk, as TensorFlow Datasets leaves them: what the tests of this room read."""

import json
import struct

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from convnets.data.decoding import encode_png

FEATURES = "tensorflow_datasets.core.features"


def make_examples(count, classes=3, shape=(6, 5, 1), seed=0):
    """uint8 images `[count, *shape]` and labels that go round the classes."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
    return images, np.arange(count) % classes


def serialize(image, label):
    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(encode_png(image))
    example.features.feature["label"].int64_list.value.append(int(label))
    return example.SerializeToString()


def write_catalog(folder, splits, classes=3, shape=(6, 5, 1), file_format="array_record"):
    """A set in `folder`, `.../name/version`; `splits` is {name: (images, labels)}."""
    folder.mkdir(parents=True)
    name, version = folder.parent.name, folder.name
    for split, examples in splits.items():
        path = folder / f"{name}-{split}.{file_format}-00000-of-00001"
        records = [serialize(image, label) for image, label in zip(*examples)]
        if file_format == "array_record":
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for record in records:
                writer.write(record)
            writer.close()
        else:
            framed = (struct.pack("<Q4x", len(record)) + record + bytes(4) for record in records)
            path.write_bytes(b"".join(framed))
    dimensions = {"dimensions": [str(side or -1) for side in shape]}
    features = {
        "image": {
            "pythonClassName": f"{FEATURES}.image_feature.Image",
            "image": {"dtype": "uint8", "shape": dimensions},
        },
        "label": {
            "pythonClassName": f"{FEATURES}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": str(classes)},
        },
    }
    info = {
        "name": name,
        "version": version,
        "fileFormat": file_format,
        "moduleName": "somewhere",
        "splits": [
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": "1",
                "shardLengths": [str(len(labels))],
            }
            for split, (_, labels) in splits.items()
        ],
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
    }
    (folder / "features.json").write_text(
        json.dumps(
            {
                "pythonClassName": f"{FEATURES}.features_dict.FeaturesDict",
                "featuresDict": {"features": features},
            }
        )
    )
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder
