"""Weight files of the metrics' networks, and those that ship with prefkit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from prefkit.errors import PrefkitError
from prefkit.media import sha256_file
from prefkit.workspace import atomic_write

SHIPPED = Path(__file__).parents[1] / "weights"
SHIPPED_LIPSYNC = SHIPPED / "lipsync" / "model.safetensors"
SHIPPED_LANDMARKS = SHIPPED / "landmarks" / "model.safetensors"


def save_weights(path: Path, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    """Writes a state dict as safetensors with its network's config in the metadata.

    Convolutions and matrices are stored in half precision; what is one number a channel (norms, biases)
    stays in single precision, since running variances of 0-255 frames leave half precision's range.
    """
    stored = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).detach().cpu().contiguous()
        for name, tensor in state.items()
    }
    with atomic_write(path) as temporary:
        save_file(stored, temporary, {"config": json.dumps(dict(config))})


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Reads a safetensors file: the config in its metadata ({} without one; lists become tuples) and its tensors.

    Raises:
        PrefkitError: there is no such file or it is none of safetensors.
    """
    if not path.is_file():
        raise PrefkitError(f"there is no file of weights at {path}; give the path of a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:
        raise PrefkitError(f"{path} cannot be read as safetensors ({error}); download it again") from None
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}, {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }


def file_hash(path: Path) -> str:
    """First 16 hex digits of a file's SHA-256, for the provenance of a score."""
    return sha256_file(path)[:16]
