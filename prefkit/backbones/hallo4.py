"""Released Hallo4 weights -> `PortraitWanTransformer3DModel`: names, sizes and the account of every key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.errors import PrefkitError

# A pattern is matched on whole dotted parts, so that `condition_cross_attn` is never read as `cross_attn`,
# and every key goes through exactly one of them, so that norm2 and norm3, which trade places, cannot meet.
_ATTENTIONS = {
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "audio_cross_attn": "audio_attn",
    "condition_cross_attn": "condition_attn",
}
_ATTENTION_PARTS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_BLOCK_PARTS = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",  # the norm before the text attention; diffusers numbers norms in order of use
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


def convert_name(name: str) -> str | None:
    """Hallo4's name of a parameter in diffusers' naming, or None for a name it does not have."""
    block = re.fullmatch(r"((?:vace_)?blocks\.\d+)\.(.+)", name)
    if block is None:
        return _replace_start(name, _TOP_PARTS)
    prefix, rest = block.groups()
    attention, _, part = rest.partition(".")
    inner = _replace_start(part, _ATTENTION_PARTS) if attention in _ATTENTIONS else _replace_start(rest, _BLOCK_PARTS)
    if inner is None:
        return None
    return f"{prefix}.{_ATTENTIONS[attention]}.{inner}" if attention in _ATTENTIONS else f"{prefix}.{inner}"


def _replace_start(name: str, names: Mapping[str, str]) -> str | None:
    for old, new in names.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return None
