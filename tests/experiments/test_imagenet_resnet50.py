"""Goyal's recipe as the paper gives it, and what its short form learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import convnets
from convnets.data import in_memory

from .claims import load, read

recipe = load("imagenet_resnet50")


@pytest.mark.parametrize(("batch_size", "peak"), [(256, 0.1), (8192, 3.2)])
def test_the_rate_rises_over_five_epochs_and_falls_at_30_60_and_80(batch_size, peak):
    steps = 1_281_167 / batch_size
    rate = recipe.create_schedule(convnets.linear_scaling(0.1, batch_size), steps)
    expected = {0: 0.1, 2.5: (0.1 + peak) / 2, 5: peak, 29.9: peak}
    expected |= {30.1: peak / 10, 59.9: peak / 10, 60.1: peak / 100, 80.1: peak / 1000}
    expected |= {79.9: peak / 100, 89.9: peak / 1000}
    for epoch, value in expected.items():
        assert float(rate(round(epoch * steps))) == pytest.approx(value, rel=0.01), epoch


def test_a_batch_of_less_than_256_begins_at_its_own_rate():
    rate = recipe.create_schedule(0.05, 100)
    assert [float(rate(step)) for step in (0, 250, 600)] == pytest.approx([0.05] * 3)


def test_kernels_alone_decay_and_the_velocity_is_without_the_rate():
    """Two updates by hand: v = 0.9 v + g and w = w - rate (0.9 v + g), g with the decay."""
    optimizer = recipe.create_optimizer(recipe.Recipe(batch_size=512), steps_per_epoch=1.0)
    params = {"conv": {"kernel": jnp.float32(2.0)}, "bn": {"scale": jnp.float32(2.0)}}
    state = optimizer.init(params)
    rates = [float(recipe.create_schedule(0.2, 1.0)(step)) for step in range(2)]
    assert rates == pytest.approx([0.1, 0.12])
    for name, decay in (("kernel", 1e-4), ("scale", 0.0)):
        weight, velocity, found, kept = 2.0, 0.0, params, state
        for rate, gradient in zip(rates, (1.0, -3.0)):
            decayed = gradient + decay * weight
            velocity = 0.9 * velocity + decayed
            weight -= rate * (0.9 * velocity + decayed)
            grads = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)  # noqa: B023
            updates, kept = optimizer.update(grads, kept, found)
            found = jax.tree.map(jnp.add, found, updates)
        module = "conv" if name == "kernel" else "bn"
        assert float(found[module][name]) == pytest.approx(weight, rel=1e-6)


def test_what_is_tested_is_the_center_of_the_image_scaled_to_256(tmp_path):
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (256, 341, 3), np.uint8) for _ in range(4)]
    for number, photo in enumerate(photos):
        for split in ("train", "test"):
            folder = tmp_path / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(folder / f"{number}.png")
    dataset = recipe.load_whole(f"folder:{tmp_path}")
    assert dataset.train.image_shape == (224, 224, 3)
    found = in_memory(dataset.test).images
    for image, photo in zip(found, [photos[index] for index in (0, 2, 1, 3)]):
        np.testing.assert_array_equal(image, photo[16:240, 58:282])
    assert len(dataset.test.select([1, 2])) == 2
    assert recipe.center(512, 600) == (32, 76, 480, 524)


def test_the_last_scales_are_zero_and_the_last_kernel_small(shared):
    dataset = recipe.load_sample("", count=10, size=32)
    assert len(set(dataset.class_names)) == 10
    model = convnets.create_model("resnet50", num_classes=10)
    shapes = jax.eval_shape(lambda: recipe.create_variables(model, dataset, 0))
    assert shapes["params"]["head"]["kernel"].shape == (2048, 10)
    model = convnets.create_model("resnet18", num_classes=10)
    params = recipe.create_variables(model, dataset, 0)["params"]
    assert np.std(params["head"]["kernel"]) == pytest.approx(0.01, rel=0.1)
    scales = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(params)
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith("bn2/scale")
    ]
    assert len(scales) == 8
    assert all((scale == 0).all() for scale in scales)


def test_a_sample_that_is_not_there_is_asked_for():
    config = recipe.Config(data="sample:/nowhere")
    with pytest.raises(convnets.UserError, match="no /nowhere/labels.csv: name the folder"):
        recipe.choose(config, "")


def test_every_batch_of_the_paper_has_the_whole_recipe(monkeypatch):
    monkeypatch.setattr(recipe, "load_whole", lambda data, data_dir: data)
    config = recipe.Config(data="imagenet2012", batch_size=8192)
    chosen, data = recipe.choose(config, "")
    assert data == "imagenet2012"
    assert dataclasses.asdict(chosen) == {
        "model": "resnet50",
        "batch_size": 8192,
        "base": 256,
        "group": 32,
        "epochs": 90,
        "augment": ("random_resized_crop", "flip"),
        "evaluate_epochs": 1,
    }


def test_the_error_is_the_median_of_the_last_five_epochs():
    lines = [
        {"test_accuracy": x, "test_examples": 100, "epoch": 1.0, "seconds": 1.0}
        for x in (0.1, 0.9, 0.5, 0.7, 0.6, 0.8)
    ]
    assert recipe.summarize(lines)["test_error_percent"] == pytest.approx(30)


def test_a_run_on_many_hosts_connects_its_processes_first():
    config = recipe.Config(coordinator="127.0.0.1:8476", num_processes=2, process_id=2)
    with pytest.raises(convnets.UserError, match="process_id is from 0 to 1 in a run of 2"):
        recipe.main(config)


def test_sixty_four_images_are_known_by_heart():
    archive, _ = read("imagenet_resnet50")
    assert archive["command"] == "python experiments/imagenet_resnet50.py"
    for line in archive["results"]:
        assert line["test_examples"] == 64
        assert line["last_error_percent"] == 0


def test_a_quick_look_has_a_batch_for_any_number_of_devices(tmp_path, monkeypatch):
    batches = []
    for devices in (1, 2, 3, 8):
        monkeypatch.setattr(jax, "device_count", lambda devices=devices: devices)
        look, dataset = recipe.choose(recipe.Config(quick=True), tmp_path / str(devices))
        assert dataset.num_classes == 2
        batches.append((look.batch_size, look.batch_size % look.group))
    assert batches == [(4, 0), (4, 0), (6, 0), (8, 0)]
