"""Tuned weights beside a backbone: LoRA adapters the diffusers / PEFT way, or a whole tuned denoiser.

A folder holds either ``pytorch_lora_weights.safetensors`` (what `load_lora_weights` of a diffusers pipeline
and `load_lora_adapter` of a model read) or ``diffusion_pytorch_model.safetensors`` (all weights), and
``adapter.json``, which says for which backbone it was made.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from prefkit.backbones.contract import Backbone
from prefkit.errors import PrefkitError
from prefkit.workspace import atomic_write

ADAPTER = "default"


def attach_adapter(backbone: Backbone, config: LoraConfig) -> None:
    """Freezes the backbone and gives it a new LoRA adapter, the only weights that then train.

    Raises:
        PrefkitError: no layer has one of the names in `config.target_modules`.
    """
    model: Any = backbone.model
    remove_adapter(backbone)
    model.requires_grad_(False)
    names = tuple(config.target_modules or ())
    if not any(name == end or name.endswith("." + end) for name, _ in model.named_modules() for end in names):
        raise PrefkitError(
            f"{type(model).__name__} has no layers named {', '.join(sorted(names))}; "
            "give lora_target_modules that it has"
        )
    model.add_adapter(config, adapter_name=ADAPTER)


def remove_adapter(backbone: Backbone) -> None:
    """Takes a LoRA adapter off again; the weights below it are untouched."""
    if has_adapter(backbone):
        backbone.model.unload_lora()  # type: ignore[operator]


def has_adapter(backbone: Backbone) -> bool:
    """Whether a LoRA adapter is attached."""
    return bool(getattr(backbone.model, "peft_config", None))


def save_adapter(backbone: Backbone, folder: str | Path, *, write: bool = True) -> str:
    """Saves the attached LoRA adapter, or all weights where there is none; returns `adapter_hash`.

    Args:
        backbone: what was tuned. Where its weights are sharded over processes, all must call this.
        folder: gets the files.
        write: whether this process writes.
    """
    folder = Path(folder)
    model: Any = backbone.model
    weights = {key: _whole(value) for key, value in _tuned_weights(backbone).items()}
    digest = adapter_hash(weights)
    if not write:
        return digest
    metadata, name = {}, SAFETENSORS_WEIGHTS_NAME
    if has_adapter(backbone):
        # a pipeline finds its component's weights by this prefix
        prefix = component_name(backbone) + "."
        config = {prefix + key: value for key, value in _plain(model.peft_config[ADAPTER].to_dict()).items()}
        metadata, name = {LORA_ADAPTER_METADATA_KEY: json.dumps(config, sort_keys=True)}, LORA_WEIGHT_NAME_SAFE
        weights = {prefix + key: value for key, value in weights.items()}
    with atomic_write(folder / name) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", **metadata})
    about = {"backbone": backbone.name, "weights_hash": backbone.weights_hash, "adapter_hash": digest}
    with atomic_write(folder / "adapter.json") as temporary:
        temporary.write_text(json.dumps(about, indent=2) + "\n")
    return digest


def load_adapter(backbone: Backbone, folder: str | Path) -> str:
    """Puts saved weights onto a backbone (in place of an adapter it has) and returns their `adapter_hash`.

    A LoRA adapter can be taken off with `remove_adapter`; a whole tuned denoiser replaces the weights.

    Raises:
        PrefkitError: the folder holds none, or one made for another backbone.
    """
    path, weights, config = _read(backbone, Path(folder))
    if config is None:
        _check_fits(backbone, path, weights, backbone.model.state_dict())
        backbone.model.load_state_dict(weights)
        return adapter_hash(weights)
    attach_adapter(backbone, LoraConfig(**config))
    outcome: Any = set_peft_model_state_dict(backbone.model, weights, adapter_name=ADAPTER)
    if outcome.unexpected_keys:
        raise PrefkitError(
            f"{path} has weights that {backbone.name} has no layers for; use the backbone it was made for"
        )
    return adapter_hash(weights)


def saved_adapter_hash(folder: str | Path) -> str:
    """The `adapter_hash` of what a folder holds.

    Raises:
        PrefkitError: it holds no adapter that `save_adapter` wrote.
    """
    about = Path(folder) / "adapter.json"
    if not about.exists():
        raise PrefkitError(f"{folder} holds no adapter (no {about.name}); name the folder 'adapter' of a run")
    return str(_read_about(about)["adapter_hash"])


def restore_adapter(backbone: Backbone, folder: str | Path) -> None:
    """Copies saved weights into those that are trained now, which may be sharded over processes.

    Raises:
        PrefkitError: the folder holds none, or weights of another backbone or another shape.
    """
    path, weights, _ = _read(backbone, Path(folder))
    trained = _tuned_weights(backbone)
    _check_fits(backbone, path, weights, trained)
    with torch.no_grad():
        for name, value in weights.items():
            trained[name].copy_(_sharded_like(value, trained[name]))


def merge_adapter(backbone: Backbone) -> None:
    """Adds the attached LoRA adapter to the weights below it, for good; `model.save_pretrained` then keeps both."""
    if has_adapter(backbone):
        backbone.model.fuse_lora()  # type: ignore[operator]
        remove_adapter(backbone)


def component_name(backbone: Backbone) -> str:
    """What diffusers pipelines call the denoiser: "unet" or "transformer"."""
    return "unet" if "UNet" in type(backbone.model).__name__ else "transformer"


def _tuned_weights(backbone: Backbone) -> dict[str, torch.Tensor]:
    model: Any = backbone.model
    return get_peft_model_state_dict(model, adapter_name=ADAPTER) if has_adapter(backbone) else model.state_dict()


def _whole(value: torch.Tensor) -> torch.Tensor:
    full: Any = value.full_tensor() if hasattr(value, "full_tensor") else value
    return full.detach().cpu().contiguous().clone()


def _sharded_like(value: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    if not hasattr(place, "device_mesh"):
        return value.to(place.device)
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = place
    return distribute_tensor(value.to(place.device), sharded.device_mesh, sharded.placements)


def adapter_hash(weights: dict[str, torch.Tensor]) -> str:
    """16 hex digits over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(backbone: Backbone, folder: Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, Any] | None]:
    """The file, its weights by the model's names, and the LoRA's config or None for a whole denoiser."""
    lora, full = folder / LORA_WEIGHT_NAME_SAFE, folder / SAFETENSORS_WEIGHTS_NAME
    if not lora.exists() and not full.exists():
        raise PrefkitError(
            f"{folder} holds no adapter (neither {lora.name} nor {full.name}); name the folder 'adapter' of a run"
        )
    _check_made_for(backbone, folder)
    if not lora.exists():
        return full, _read_weights(full)[0], None
    weights, metadata = _read_weights(lora)
    prefix = component_name(backbone) + "."
    if LORA_ADAPTER_METADATA_KEY not in metadata or not all(name.startswith(prefix) for name in weights):
        raise PrefkitError(
            f"{lora} holds no adapter of a {prefix[:-1]} with its settings; "
            f"use one that 'prefkit train-dpo' made for {backbone.name}"
        )
    config = {key.removeprefix(prefix): value for key, value in json.loads(metadata[LORA_ADAPTER_METADATA_KEY]).items()}
    return lora, {name.removeprefix(prefix): value for name, value in weights.items()}, config


def _check_fits(
    backbone: Backbone, path: Path, weights: dict[str, torch.Tensor], places: dict[str, torch.Tensor]
) -> None:
    differing = sorted(
        name
        for name in weights.keys() | places.keys()
        if name not in weights or name not in places or weights[name].shape != places[name].shape
    )
    if differing:
        raise PrefkitError(
            f"{path} does not fit {backbone.name} as it is trained now ({len(differing)} weights differ, "
            f"e.g. {differing[0]}); use the backbone and options it was made with"
        )


def _check_made_for(backbone: Backbone, folder: Path) -> None:
    about = folder / "adapter.json"
    if not about.exists():
        return  # made by another tool; the layers decide whether it fits
    made_for = _read_about(about)
    if made_for["weights_hash"] != backbone.weights_hash:
        raise PrefkitError(
            f"the adapter in {folder} was made for {made_for['backbone']} {made_for['weights_hash']}, "
            f"not for {backbone.name} {backbone.weights_hash}; load the backbone it was made for"
        )


def _read_about(path: Path) -> dict[str, str]:
    try:
        return {"backbone": "", "weights_hash": "", "adapter_hash": ""} | json.loads(path.read_text())
    except ValueError:
        raise PrefkitError(f"{path} cannot be read; expected what training wrote, so train or copy it again") from None


def _read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise PrefkitError(
            f"{path} cannot be read ({error}); expected a safetensors file, so train or copy it again"
        ) from None


def _plain(value: Any) -> Any:
    """JSON's types out of PEFT's (sets, enums)."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
