"""A quarter of gray, well placed, fools LeNet-5 on most digits; training against it helps.

Command:    python experiments/adversarial_mnist.py --data-dir DIR     (DIR holds TFDS's `mnist`)
Hardware:   see results/adversarial_mnist.json
Minutes:    see there
Reference:  Goodfellow, Shlens, Szegedy 2015, "Explaining and harnessing adversarial examples",
            sections 4 and 6: on MNIST at epsilon 0.25 a maxout network errs on 89.4 % of attacked
            digits, after adversarial training on 17.9 %; Szegedy et al. 2014, table 1, for L-BFGS
Ours:       see the table of README.md, made from results/adversarial_mnist.json

LeNet-5 is trained twice by the recipe of `mnist_lenet5.py` with fewer epochs and no augmentation,
as it is and with half of the loss on digits attacked by the fast gradient sign method; and once
more by that recipe itself. All are then measured on the test split: as it is, with random signs,
with the fast gradient sign, and with projected steps from it (on the first digits), all of one size
and brought back into [0, 1]. Of some digits the least epsilon at which the fast gradient sign fools
the network is searched for, and L-BFGS is asked for the class that the digit is then taken for;
what is compared is the l2 norm of the change.
"""

import dataclasses
import math
import time
from functools import partial

import jax
import mnist_lenet5
import numpy as np
from cases import Common, require_whole, run_cases, run_from_shell
from tables import format_table, name_seeds, origin

import convnets
from convnets import adversarial

NAME = "adversarial_mnist"
TRAININGS = ("plain", "adversarial", "longer")


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train LeNet-5 with and without adversarial examples, attack both, and archive it."""

    seeds: tuple[int, ...] = (0, 1, 2)
    data: str = "mnist"
    model: str = "lenet5"
    epochs: float = 3
    batch_size: int = 128
    learning_rate: float = 0.003
    """Of AdamW, at its largest; a cosine brings it to zero."""
    weight_decay: float = 0.2
    epsilon: float = 0.25
    """Of attacks and of adversarial training, in pixels of [0, 1]."""
    steps: int = 40
    """Of the projected gradient."""
    projected: int = 1000
    """Test images that it attacks."""
    smallest: int = 30
    """Test images whose smallest changes are searched for."""


def main(config: Config) -> None:
    small = {
        "data": "digits",
        "model": "linear",
        "epochs": 1,
        "seeds": (0,),
        "projected": 20,
        "smallest": 1,
    }
    used = dataclasses.replace(config, steps=2, **small) if config.quick else config
    dataset = convnets.load_dataset(used.data, data_dir=config.data_dir)
    cases = [{"training": name, "seed": seed} for seed in used.seeds for name in TRAININGS]
    run_cases(NAME, config, cases, lambda case, folder: run(used, dataset, **case))


def run(config: Config, dataset, training: str, seed: int) -> dict:
    """One training and all attacks on what it made."""
    model = convnets.create_model(config.model, num_classes=dataset.num_classes)
    share = {"adversarial": 0.5}.get(training)
    begin = time.monotonic()
    result = convnets.fit(
        model,
        dataset,
        objective=None if share is None else make_objective(config.epsilon, share),
        batch_size=config.batch_size,
        optimizer="adamw",
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        seed=seed,
        progress=False,
        **longer(config) if training == "longer" else {"epochs": config.epochs, "augment": ()},
    )
    require_whole(result)
    trained = round(time.monotonic() - begin, 1)
    state = result.state
    classify = adversarial.as_function(model, state.variables(), normalization=state.normalization)
    return {
        "training_seconds": trained,
        **attack_set(config, classify, dataset.test, seed),
        **compare_strength(config, classify, dataset.test),
        "smallest": smallest_changes(config, classify, dataset.test),
    }


def longer(config: Config) -> dict:
    """What `mnist_lenet5.py` has besides."""
    recipe = mnist_lenet5.Config()
    epochs = config.epochs if config.quick else recipe.epochs
    return {"epochs": epochs, "schedule": "cosine", "augment": recipe.augment}


def make_objective(epsilon: float, share: float):
    return partial(adversarial.adversarial_classification, epsilon=epsilon, share=share)


def attack_set(config: Config, classify, source, seed: int) -> dict:
    """Errors on the whole test split, in percent."""
    attacks = {
        "random_signs": adversarial.random_signs,
        "gradient_sign": adversarial.fast_gradient_sign,
    }
    found = {}
    for name, attack in attacks.items():
        attack = partial(attack, epsilon=config.epsilon)
        measured = adversarial.robust_accuracy(classify, attack, source, seed=seed)
        found["clean_error"] = _percent(measured["accuracy"])
        found[f"{name}_error"] = _percent(measured["robust_accuracy"])
    return {**found, "test_examples": measured["examples"]}


def compare_strength(config: Config, classify, source) -> dict:
    """The fast gradient sign and projected steps on the same images, one by one."""
    batch = source.batch(np.arange(min(config.projected, len(source))))
    images, labels = batch["image"], batch["label"]
    attacks = {
        "gradient_sign": partial(adversarial.fast_gradient_sign, epsilon=config.epsilon),
        "projected": partial(
            adversarial.projected_gradient, epsilon=config.epsilon, steps=config.steps
        ),
    }
    wrong, losses = {}, {}
    for name, attack in attacks.items():
        logits = jax.jit(lambda x, y, attack=attack: classify(attack(classify, x, y)))(
            images, labels
        )
        wrong[name] = np.asarray(logits.argmax(-1) != labels)
        losses[name] = np.asarray(convnets.losses.softmax_cross_entropy(logits, labels))
    one, other = wrong["gradient_sign"], wrong["projected"]
    weaker = one & ~other
    weaker |= (one == other) & (losses["projected"] < losses["gradient_sign"] * (1 - 1e-4) - 1e-4)
    return {
        "projected_examples": len(labels),
        "projected_error": _percent(1 - other.mean()),
        "gradient_sign_error_there": _percent(1 - one.mean()),
        "projected_is_weaker_on": int(weaker.sum()),
    }


def smallest_changes(config: Config, classify, source) -> list[dict]:
    """Of the first images that are right: the l2 norms of the least changes that fool."""
    batch = source.batch(np.arange(min(4 * config.smallest, len(source))))
    images, labels = batch["image"].astype(np.float32) / 255, batch["label"]
    right = np.flatnonzero(np.asarray(classify(images).argmax(-1)) == labels)[: config.smallest]
    images, labels = images[right], labels[right]
    epsilons, signed, taken_for = least_signs(classify, images, labels)
    found = adversarial.lbfgs_attack(classify, images, taken_for)
    nearest = np.asarray(jax.jit(partial(adversarial.deepfool, classify))(images))
    return [
        {
            "epsilon": round(float(epsilons[n]), 4),
            "gradient_sign": _norm(signed[n] - images[n]),
            "lbfgs": _norm(found.images[n] - images[n]),
            "lbfgs_fooled": bool(found.fooled[n]),
            "deepfool": _norm(nearest[n] - images[n]),
        }
        for n in range(len(images))
        if epsilons[n] < 1
    ]


def least_signs(classify, images, labels):
    """The least epsilon, in steps of 1/100, at which each is fooled (1 where none does), the image
    and the class that it is then taken for."""
    attack = jax.jit(
        lambda epsilon: adversarial.fast_gradient_sign(classify, images, labels, epsilon=epsilon)
    )
    epsilons, best = np.ones(len(images)), np.array(images)
    taken_for = (labels + 1) % 10
    for epsilon in np.arange(0.99, 0, -0.01):
        attacked = np.asarray(attack(np.float32(epsilon)))
        classes = np.asarray(classify(attacked).argmax(-1))
        fooled = classes != labels
        epsilons[fooled], best[fooled] = epsilon, attacked[fooled]
        taken_for = np.where(fooled, classes, taken_for)
    return epsilons, best, taken_for


def _percent(accuracy):
    return round(100 * (1 - float(accuracy)), 2)


def _norm(change):
    return round(float(np.linalg.norm(change)), 4)


def middle(archive: dict, training: str, measure: str) -> float:
    """The median over the seeds; NaN where none is archived."""
    found = [r[measure] for r in archive["results"] if r["training"] == training]
    return float(np.median(found)) if found else math.nan


def table(archive: dict) -> str:
    """The table of README.md."""
    epsilon, count = archive["settings"]["epsilon"], archive["results"][0]["projected_examples"]
    rows = [
        ("LeNet-5 on MNIST, test error", "3 epochs", "3, against the second", "the full recipe")
    ]
    for title, measure in (
        ("digits as they are", "clean_error"),
        (f"fast gradient sign, epsilon {epsilon}", "gradient_sign_error"),
        (f"random signs of {epsilon}", "random_signs_error"),
        (f"projected gradient, first {count:,} digits", "projected_error"),
    ):
        errors = [middle(archive, training, measure) for training in TRAININGS]
        rows.append((title, *("" if math.isnan(x) else f"{x:.2f} %" for x in errors)))
    for title, name in (
        ("least change that fools, l2 norm: fast gradient sign", "gradient_sign"),
        ("… L-BFGS, to the same class", "lbfgs"),
        ("… DeepFool", "deepfool"),
    ):
        norms = []
        for training in TRAININGS:
            changes = [
                line[name]
                for result in archive["results"]
                if result["training"] == training
                for line in result["smallest"]
            ]
            norms.append(f"{np.median(changes):.2f}" if changes else "")
        rows.append((title, *norms))
    return f"{format_table(rows)}\n\nMedians of {name_seeds(archive)}. {origin(archive)}"


if __name__ == "__main__":
    run_from_shell(NAME, main, Config)
