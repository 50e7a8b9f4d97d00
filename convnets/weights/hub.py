"""Weights from the Hugging Face hub: fetched once, then read from its cache, and verified."""

import hashlib
import json
import re
from pathlib import Path

from ..errors import UserError, first_line

SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(repository: str, cache_dir=None) -> tuple[Path, dict]:
    """The weights of a repository, as a path, and its `config.json`.

    Args:
      repository: as `timm/resnet50.tv_in1k`.
      cache_dir: folder for what is fetched; None for the hub's own (`HF_HOME`, else
        `~/.cache/huggingface`).

    Raises: UserError, with the address, where the hub cannot be reached or has no such file, and
    for a file in the cache that is damaged.
    """
    weights = _download(repository, "model.safetensors", cache_dir)
    require_sha256(weights)
    path = _download(repository, "config.json", cache_dir)
    try:
        return weights, json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, delete it: {first_line(error)}") from None


def _download(repository, file, cache_dir):
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, cache_dir=cache_dir))
    except Exception as error:  # of the hub, of HTTP, of the network, of the disk
        raise UserError(
            f"cannot fetch {file} of {repository}: {first_line(error)}; without a network, "
            f"download https://huggingface.co/{repository}/resolve/main/model.safetensors "
            "elsewhere, put it anywhere here and pass file=PATH"
        ) from None


def require_sha256(path: Path) -> None:
    """Refuses a file of the hub's cache whose content is not what the hub said.

    The cache holds large files as `blobs/HASH`, with links to them under their names. Where it
    does without links, as on Windows, the hash is not known and nothing is checked.

    Raises: UserError that names the file to delete.
    """
    blob = Path(path).resolve()
    if blob.parent.name != "blobs" or not SHA256.fullmatch(blob.name):
        return
    with open(blob, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != blob.name:
        raise UserError(
            f"{blob} is damaged: its SHA-256 is {found}; delete it to have it fetched again"
        )
