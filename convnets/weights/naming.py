"""From the paths of our variables to another library's names, by its table."""

import re

from .names import Names

WORDS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
UNITS = ("expand", "depthwise", "squeeze_excitation", "project")  # of an inverted residual


def name_variables(paths, names: Names) -> dict[str, str]:
    """Their name of each of our variables.

    Args:
      paths: of variables, `collection/module/…/word`, such as `params/backbone/conv1/kernel`.
      names: the table.

    Returns: path -> name, such as `conv1.weight`.

    >>> from .names import RESNET
    >>> name_variables(["params/backbone/stage2_block1/conv1/kernel"], RESNET)
    {'params/backbone/stage2_block1/conv1/kernel': 'layer2.0.conv1.weight'}
    """
    modules = {path: layer_of(path) for path in paths}
    layers = sorted({path.rpartition("/")[0] for path in modules.values()}, key=_natural)
    found = {}
    for path, inner in modules.items():
        module, _, word = inner.rpartition("/")
        if word in WORDS:
            found[path] = f"{name_layer(module, layers, names)}.{WORDS[word]}"
        else:
            found[path] = name_layer(inner, layers, names)
    if len({*found.values()}) < len(found):
        raise AssertionError("two variables have one name; the table is wrong")
    return found


def name_layer(path: str, layers: list[str], names: Names) -> str:
    """Their name of one of our layers, among all of them in natural order."""
    for pattern, template in names.rules:
        match = re.fullmatch(pattern, path)
        if match:
            return match.expand(template).format(**_numbers(path, layers))
    raise AssertionError(f"the table has no rule for {path!r}")


def first_convolution(paths) -> str:
    """The path of the kernel that sees the image, among those of a model with a table of names;
    empty where there is none.

    >>> first_convolution(["params/backbone/conv1/kernel", "params/backbone/stem_conv1/kernel"])
    'params/backbone/stem_conv1/kernel'
    """
    pattern = r"params/backbone/(stem_conv1?|conv1(a|_1)?)(/conv)?/kernel"
    return max((path for path in paths if re.fullmatch(pattern, path)), default="")


def layer_of(path: str) -> str:
    """The path of a variable within its model, without its collection and `backbone/`.

    >>> layer_of("params/backbone/conv1/kernel")
    'conv1/kernel'
    """
    return path.partition("/")[2].removeprefix("backbone/")


def _natural(path: str):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def _numbers(path: str, layers: list[str]) -> dict[str, int]:
    """What templates may count with, of the block or layer that a path stands in."""
    if match := re.match(r"(stage(\d+)_block(\d+))(?:/bn_|/)?(\w+)?", path):
        name, stage, block, unit = match[1], int(match[2]), int(match[3]), match[4]
        blocks = [*dict.fromkeys(layer.partition("/")[0] for layer in layers if _is_block(layer))]
        there = [unit for unit in UNITS if any(x.startswith(f"{name}/{unit}") for x in layers)]
        before = there.index(unit) if unit in there else 0
        return {
            "stage": stage - 1,
            "block": block - 1,
            "odd": 2 * stage - 1,
            "flat": blocks.index(name) + 1,
            "unit": before,
            "next_unit": before + 1,
            "norm": before + 1 - ("squeeze_excitation" in there[:before]),
        }
    if match := re.fullmatch(r"downsample(\d)_\w+", path):
        return {"stage": int(match[1]) - 1, "downsample": 2 * int(match[1]) - 2}
    if match := re.fullmatch(r"(conv|bn)((\d)_\d)", path):  # of VGG, where ReLUs and pools count
        convolutions = [layer for layer in layers if re.fullmatch(r"conv\d_\d", layer)]
        normalized = f"bn{match[2]}" in layers
        before = convolutions.index(f"conv{match[2]}") * (3 if normalized else 2)
        return {"place": before + int(match[3]) - 1 + (match[1] == "bn")}
    blocks = {layer.partition("/")[0] for layer in layers if _is_block(layer)}
    return {"last": len(blocks) + 1, "stages": len({block.split("_")[0] for block in blocks})}


def _is_block(layer: str) -> bool:
    return re.match(r"stage\d+_block\d+", layer) is not None
