"""Released Hallo4 weights -> `PortraitWanTransformer3DModel`, every key accounted for.

Source of the names: Hallo4's published inference code (a Wan2.1-VACE transformer).
"""

import inspect
import json
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open

from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.errors import PrefkitError, nearest_names

Weights = dict[str, torch.Tensor]

# Names are matched by whole dotted parts and each key once: `condition_cross_attn` is never read as
# `cross_attn`, and the norms, which trade numbers, cannot be renamed twice.
_ATTENTIONS = {
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "audio_cross_attn": "audio_attn",
    "condition_cross_attn": "condition_attn",
}
_ATTENTION_PARTS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_BLOCK_PARTS = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",  # before the text attention; diffusers numbers the norms in order of use
    "audio_cross_norm": "audio_norm",
    "condition_cross_norm": "condition_norm",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "before_proj": "proj_in",
    "after_proj": "proj_out",
}
_TOP_PARTS = {
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "pose_proj": "skeleton_proj",
    "audio_proj": "audio_proj",
}
_WRAPPERS = ("state_dict", "model", "module")
_PREFIXES = ("model.", "module.", "diffusion_model.")
# What Hallo4's own configuration calls what the shapes of the weights do not tell.
_HALLO4_SETTINGS = {"num_heads": "num_attention_heads", "vace_layers": "vace_layers", "eps": "eps"}
_HALLO4_AUDIO_SETTINGS = {"seq_len": "audio_window", "blocks": "audio_blocks", "channels": "audio_channels"}
_WAN_HEAD_DIM = 128
_WAV2VEC2_LAYERS = 12
_AUDIO_WINDOW = 5


def load_hallo4_checkpoint(
    path: str | Path, config: Mapping[str, Any] | None = None, *, torch_dtype: torch.dtype | None = None
) -> PortraitWanTransformer3DModel:
    """Loads Hallo4's transformer.

    Sizes are read off the weights. What weights cannot tell (the number of heads, which layers take a VACE hint,
    how the audio features divide into window, layers and channels) comes from `config`, else from the file's own
    `config` metadata (safetensors), else it is as released: heads of 128 channels, evenly spaced VACE layers,
    5 frames of 12 wav2vec2 layers.

    Args:
        path: `.safetensors`, `.pth`, `.pt` or `.ckpt`; the last three are read with `weights_only=True`. Of sharded
            safetensors the index (`….safetensors.index.json`).
        config: overrides, under this project's names (`PortraitWanTransformer3DModel`'s arguments) or Hallo4's.
        torch_dtype: of the weights, but for the parts that Wan keeps in float32; None for the file's own.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        PrefkitError: an unreadable file, or weights that are not all of a Hallo4 model's and nothing else.
    """
    path = Path(path)
    weights, metadata = _read(path)
    if config is None and "config" in metadata:
        config = json.loads(metadata["config"])
    settings = infer_config({name: tuple(tensor.shape) for name, tensor in weights.items()}, path, config)
    with init_empty_weights():
        model = _build(settings, path)
    converted = {convert_name(name) or name: tensor for name, tensor in weights.items()}
    _account_for_keys(model, converted, path)
    if torch_dtype is not None:
        converted = {name: tensor.to(_dtype(name, torch_dtype)) for name, tensor in converted.items()}
    model.load_state_dict(converted, assign=True)
    return model.eval()


def convert_name(name: str) -> str | None:
    """Hallo4's name of a parameter -> the model's, or None where Hallo4 has no such parameter."""
    block = re.fullmatch(r"((?:vace_)?blocks\.\d+)\.(.+)", name)
    if block is None:
        return _replace_start(name, _TOP_PARTS)
    prefix, rest = block.groups()
    attention, _, part = rest.partition(".")
    if attention not in _ATTENTIONS:
        inner = _replace_start(rest, _BLOCK_PARTS)
        return inner and f"{prefix}.{inner}"
    inner = _replace_start(part, _ATTENTION_PARTS)
    return inner and f"{prefix}.{_ATTENTIONS[attention]}.{inner}"


def infer_config(
    shapes: Mapping[str, tuple[int, ...]], path: Path, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The model's arguments from the shapes of its weights under Hallo4's names, and from `config`.

    Args:
        shapes: of every weight.
        path: where they come from, for messages.
        config: what the shapes do not tell; see `load_hallo4_checkpoint`.

    Raises:
        PrefkitError: weights are missing from which a size is read, or a size is neither given nor as released.
    """
    given = _translate_config(config or {}, path)
    sizes = _sizes(shapes, path)
    dim, layers, hints = sizes.pop("dim"), sizes["num_layers"], sizes.pop("vace_blocks")
    heads = given.get("num_attention_heads", dim // _WAN_HEAD_DIM)
    if not heads or dim % heads:
        raise PrefkitError(
            f"{path} has a width of {dim}, which does not divide into "
            f"{f'{heads} heads' if heads else f'heads of {_WAN_HEAD_DIM} channels'}: "
            'give config={"num_attention_heads": …}.'
        )
    step = -(-layers // hints)
    features = sizes.pop("audio_features")
    window = given.get("audio_window", _AUDIO_WINDOW)
    blocks = given.get("audio_blocks", _WAV2VEC2_LAYERS)
    channels = given.get("audio_channels", features // (window * blocks))
    if window * blocks * channels != features:
        raise PrefkitError(
            f"{path} takes {features} audio features a frame, which is not {window} frames of {blocks} layers of "
            f'{channels} channels: give config={{"audio_window": …, "audio_blocks": …, "audio_channels": …}}.'
        )
    return {
        "vace_layers": tuple(range(0, layers, step)),
        **sizes,
        **given,
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "audio_window": window,
        "audio_blocks": blocks,
        "audio_channels": channels,
    }


def _sizes(shapes: Mapping[str, tuple[int, ...]], path: Path) -> dict[str, Any]:
    needed = {
        "patch_embedding.weight": 5,
        "vace_patch_embedding.weight": 5,
        "text_embedding.0.weight": 2,
        "time_embedding.0.weight": 2,
        "blocks.0.ffn.0.weight": 2,
        "vace_blocks.0.after_proj.weight": 2,
        "head.head.weight": 2,
        "pose_proj.proj.weight": 4,
        "audio_proj.proj1.weight": 2,
        "audio_proj.proj3.weight": 2,
    }
    unusable = [name for name, ndim in needed.items() if len(shapes.get(name, ())) != ndim]
    if unusable:
        raise PrefkitError(
            f"{path} has {len(shapes)} weights but not {_list(unusable)}, which every Hallo4 transformer has: "
            "give its complete transformer checkpoint."
        )
    dim, in_channels, *patch_size = shapes["patch_embedding.weight"]
    patch_volume = patch_size[0] * patch_size[1] * patch_size[2]
    return {
        "dim": dim,
        "patch_size": tuple(patch_size),
        "in_channels": in_channels,
        "out_channels": shapes["head.head.weight"][0] // patch_volume,
        "vace_in_channels": shapes["vace_patch_embedding.weight"][1],
        "text_dim": shapes["text_embedding.0.weight"][1],
        "freq_dim": shapes["time_embedding.0.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.0.weight"][0],
        "num_layers": _count_blocks("blocks", shapes),
        "vace_blocks": _count_blocks("vace_blocks", shapes),
        "skeleton_channels": shapes["pose_proj.proj.weight"][1],
        "temporal_factor": dim // shapes["pose_proj.proj.weight"][0],
        "audio_features": shapes["audio_proj.proj1.weight"][1],
        "audio_hidden_dim": shapes["audio_proj.proj1.weight"][0],
        "audio_context_tokens": shapes["audio_proj.proj3.weight"][0] // dim,
    }


def _count_blocks(kind: str, names: Iterable[str]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in names if re.match(rf"{kind}\.\d+\.", name))


def _dtype(name: str, wanted: torch.dtype) -> torch.dtype:
    parts = name.split(".")
    kept: Any = PortraitWanTransformer3DModel._keep_in_fp32_modules
    return torch.float32 if any(part in parts for part in kept) else wanted


def _translate_config(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if "num_heads" in config:  # Hallo4's own file; the sizes in it are read off the weights
        audio = config.get("audio", {})
        own = {ours: config[theirs] for theirs, ours in _HALLO4_SETTINGS.items() if config.get(theirs) is not None}
        own |= {ours: audio[theirs] for theirs, ours in _HALLO4_AUDIO_SETTINGS.items() if theirs in audio}
    else:
        own = {name: value for name, value in config.items() if not name.startswith("_")}
    known = inspect.signature(PortraitWanTransformer3DModel).parameters
    for name in own:
        if name not in known:
            raise PrefkitError(f"The config for {path} has an unknown setting {name!r}{nearest_names(name, known)}")
    return own


def _build(settings: dict[str, Any], path: Path) -> PortraitWanTransformer3DModel:
    try:
        return PortraitWanTransformer3DModel(**settings)
    except ValueError as error:
        raise PrefkitError(f"The sizes of {path} make no model: {error}") from error


def _account_for_keys(model: torch.nn.Module, weights: Weights, path: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    counts = [f"{len(names)} {problem}: {_list(names)}" for problem, names in problems.items() if names]
    if counts:
        raise PrefkitError(
            f"{path} has {len(found)} weights, expected the {len(expected)} of a Hallo4 transformer of this size "
            f"({'; '.join(counts)}): give its complete transformer checkpoint, or the config that fits it."
        )


def _read(path: Path) -> tuple[Weights, dict[str, str]]:
    if not path.is_file():
        raise PrefkitError(
            f"There is no file {path}: give Hallo4's transformer checkpoint (.safetensors, .pth, .ckpt)."
        )
    try:
        if path.suffix == ".safetensors":
            content, metadata = _read_safetensors(path)
        elif path.name.endswith(".safetensors.index.json"):
            content, metadata = _read_shards(path), {}
        elif path.suffix in (".pth", ".pt", ".ckpt"):
            content, metadata = torch.load(path, map_location="cpu", weights_only=True), {}
        else:
            raise PrefkitError(
                f"Found {path}, expected a .safetensors, .pth, .pt or .ckpt checkpoint, or the index of shards "
                "(.safetensors.index.json)."
            )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise PrefkitError(
            f"{path} cannot be read as a checkpoint, it may be truncated ({reason}): download it again."
        ) from error
    return _unwrap(content, path), metadata


def _read_safetensors(path: Path) -> tuple[Any, dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def _read_shards(index: Path) -> Weights:
    """The weights that an index names, each from its own file."""
    try:
        shards: dict[str, str] = json.loads(index.read_text())["weight_map"]
    except (ValueError, KeyError, TypeError):
        raise PrefkitError(f"{index} is no index of shards; expected its weight_map: download it again.") from None
    weights: Weights = {}
    for name in sorted(set(shards.values())):
        shard = index.parent / name
        if not shard.is_file():
            raise PrefkitError(
                f"{index} names {name}, which is not beside it: download all {len(set(shards.values()))} shards."
            )
        weights |= _read_safetensors(shard)[0]
    return weights


def _unwrap(content: Any, path: Path) -> Weights:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise PrefkitError(f"{path} holds something other than named weights: give Hallo4's transformer checkpoint.")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return dict(content)


def _replace_start(name: str, names: Mapping[str, str]) -> str | None:
    for old, new in names.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return None


def _list(names: list[str], most: int = 12) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
