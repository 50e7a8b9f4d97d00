"""The systems of `mnist_table.py`: each row's classifier or network, and its settings."""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

import convnets
from convnets.layers import BatchNorm, Conv, Dense, he_normal, relu
from convnets.models import MLP, Classifier
from convnets.models.perceptron import DenseLayers
from convnets.ops import image, max_pool

QUICK = {"steps": 2, "batch_size": 8}


class DigitNet(nn.Module):
    """Three convolutions, each before a pooling and batch norm, for 28x28 pixels.

    Endpoints: `stage1 [B, 14, 14, 32]`, `stage2 [B, 7, 7, 64]`, `stage3 [B, 3, 3, 128]`.
    """

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images, {}
        for number, (features, size) in enumerate(((32, 5), (64, 3), (128, 3)), 1):
            conv = Conv(features, size, padding=size // 2, use_bias=False, name=f"conv{number}")
            x = BatchNorm(name=f"bn{number}")(max_pool(conv(x), 2), train=train)
            x = endpoints[f"stage{number}"] = relu(x)
        return endpoints


class DeepMLP(nn.Module):
    """Nine dense layers with batch norm.

    Endpoints: `dense1` to `dense9`, `[B, 1000]`.
    """

    @nn.compact
    def __call__(self, images, *, train: bool) -> dict:
        x, endpoints = images.reshape(len(images), -1), {}
        for number in range(1, 10):
            dense = Dense(1000, use_bias=False, kernel_init=he_normal(), name=f"dense{number}")
            x = relu(BatchNorm(name=f"bn{number}")(dense(x), train=train))
            endpoints[f"dense{number}"] = x
        return endpoints


def create_mlp(*widths: int) -> Classifier:
    return Classifier(MLP(widths), num_classes=10)


def create_cnn(dropout: float) -> Classifier:
    hidden = partial(DenseLayers, features=(256,))
    return Classifier(DigitNet(), num_classes=10, hidden=hidden, pool="flatten", dropout=dropout)


NETWORKS = {
    "linear": partial(convnets.create_model, "linear", num_classes=10),
    "mlp_1000": partial(create_mlp, 1000),
    "mlp_800": partial(create_mlp, 800),
    "mlp_9x1000": partial(Classifier, DeepMLP(), num_classes=10),
    "cnn": partial(create_cnn, 0.25),
    "cnn_distorted": partial(create_cnn, 0.1),
}


@dataclasses.dataclass(frozen=True)
class System:
    """A row: the errors printed in the two lectures, and how it is made here.

    Attributes:
      printed: test errors in %, of Collobert 2015 and of Ranzato 2012; None where not printed.
      fit_classifier: `seed -> classifier` of scikit-learn; None for a network.
      network: of `NETWORKS`.
      augment: of its training images; None for none.
      options: of `convnets.fit`.
      member: the system that each member of a committee is, and
      widths: of the digits that they see; none for one network.
      views: of a test digit, over which the probabilities are averaged; None for the digit alone.
      runs: how many seeds at most: one for what draws nothing, and for what takes long.
    """

    printed: tuple[float | None, float | None]
    fit_classifier: Callable | None = None
    network: str | None = None
    augment: Callable | None = None
    options: dict = dataclasses.field(default_factory=dict)
    member: str | None = None
    widths: tuple[int | None, ...] = ()
    views: Callable | None = None
    runs: int = 3


ADAMW = {"optimizer": "adamw", "batch_size": 128, "schedule": "cosine"}
CNN = {**ADAMW, "learning_rate": 0.003, "weight_decay": 0.02, "epochs": 20}
# Distorted images are smoother than those of the test: batch norm's statistics are to be of these.
DISTORTED = {**CNN, "epochs": 30, "recompute_statistics": 100}
MILD = {"alpha": 20.0, "max_degrees": 8.0, "max_shift": 1.5, "scale": (0.9, 1.1), "max_shear": 0.05}
DISTORT = partial(image.elastic_affine, **MILD)
SYSTEMS = {
    "linear classifier": System(
        (None, 12.0), network="linear", options={**ADAMW, "learning_rate": 0.001, "epochs": 10}
    ),
    "boosted stumps": System(
        (None, 7.7),
        lambda seed: HistGradientBoostingClassifier(
            max_leaf_nodes=2, max_iter=400, learning_rate=0.5, early_stopping=False,
            random_state=seed,
        ),
        runs=1,
    ),
    "k nearest neighbors, Euclidean": System(
        (None, 5.0), lambda seed: KNeighborsClassifier(3), runs=1
    ),
    "boosted trees": System(
        (None, 1.5),
        lambda seed: HistGradientBoostingClassifier(
            max_leaf_nodes=31, max_iter=200, learning_rate=0.2, l2_regularization=1.0,
            max_features=0.1, early_stopping=False, random_state=seed,
        ),
        runs=1,
    ),
    "SVM with Gaussian kernel": System(
        (1.4, 1.4), lambda seed: SVC(C=10, gamma=0.025, cache_size=1000), runs=1
    ),
    "1000 hidden units, squared error": System(
        (4.5, None),
        network="mlp_1000",
        options={**ADAMW, "learning_rate": 0.001, "epochs": 20, "loss": "squared_error"},
    ),
    "800 hidden units": System(
        (1.6, 1.6),
        network="mlp_800",
        options={**ADAMW, "learning_rate": 0.002, "weight_decay": 0.2, "epochs": 20},
    ),
    "convolutional network": System((0.8, None), network="cnn", options=CNN),
    "convolutional network, distortions": System(
        (0.4, None), network="cnn_distorted", augment=DISTORT, options=DISTORTED,
        views=image.shift_views,
    ),
    "committee, distortions": System(
        (None, None),
        member="convolutional network, distortions",
        widths=(None, 12, 14, 16, 18),
        views=image.shift_views,
    ),
    "9 layers of 1000 units, distortions": System(
        (0.4, None),
        network="mlp_9x1000",
        augment=DISTORT,
        options={
            **ADAMW, "batch_size": 256, "learning_rate": 0.001, "weight_decay": 0.02, "epochs": 80,
            "recompute_statistics": 100,
        },
        views=image.shift_views,
        runs=1,
    ),
}  # fmt: skip


def with_width(dataset, width: int | None):
    """The data set with every digit stretched to a width in pixels; None leaves it."""
    if width is None:
        return dataset
    splits = {
        name: dataclasses.replace(source, images=stretch(source.images, width))
        for name, source in dataset.splits.items()
    }
    return dataclasses.replace(dataset, **splits)


def stretch(images, width: int):
    """uint8 images with every digit stretched to a width in pixels."""
    one = jax.jit(jax.vmap(partial(image.normalize_width, width=width)))
    parts = [one(image.to_float(images[i : i + 5000])) for i in range(0, len(images), 5000)]
    return np.concatenate([np.round(255 * np.asarray(part)).astype(np.uint8) for part in parts])


def run_classifier(system: System, dataset, seed: int, *, quick: bool) -> dict:
    """A classifier of scikit-learn on pixels from 0 to 1."""
    train, test = (
        source.batch(range(min(len(source), 100) if quick else len(source)))
        for source in (dataset.train, dataset.test)
    )
    pixels = [x["image"].reshape(len(x["image"]), -1) / np.float32(255) for x in (train, test)]
    classifier = system.fit_classifier(seed).fit(pixels[0], train["label"])
    return describe_errors(classifier.predict(pixels[1]), test["label"])


def ask_committee(system: System, dataset, trained: list) -> dict:
    """The errors of its members' mean probabilities; of each a model and a result are given."""
    members = [
        convnets.Member(model, result.state, width and partial(stretch, width=width))
        for width, (model, result) in zip(system.widths, trained)
    ]
    test = dataset.test.batch(range(len(dataset.test)))
    answers = convnets.predict_committee(members, test["image"], views=system.views).argmax(1)
    each = [100 * (1 - result.history[-1]["test_accuracy"]) for _, result in trained]
    return {
        **describe_errors(answers, test["label"]),
        "member_error_percent": [round(error, 4) for error in each],
        # Without the first, which is a row of its own.
        "seconds": sum(result.history[-1]["seconds"] for _, result in trained[1:]),
    }


def average_views(system: System, dataset, model, state) -> dict:
    """The errors of a network whose probabilities are averaged over several views of each digit."""
    test = dataset.test.batch(range(len(dataset.test)))
    answers = convnets.predict(model, state, test["image"], views=system.views).argmax(1)
    return describe_errors(answers, test["label"])


def describe_errors(answers, labels) -> dict:
    """How many of the answers are wrong."""
    errors = int(np.sum(answers != labels))
    return {
        "test_error_percent": round(100 * errors / len(labels), 4),
        "test_errors": errors,
        "test_examples": len(labels),
    }
