"""A backbone by its name: prefkit's own, an installed package's, or "package.module:Class"."""

import importlib
from pathlib import Path
from typing import Any

from prefkit.backbones.contract import Backbone
from prefkit.plugins import BACKBONES, load_plugin

OWN = {
    "tiny": "prefkit.backbones.tiny:TinyBackbone",
    "hallo4": "prefkit.backbones.hallo4_backbone:Hallo4Backbone",
    "unet": "prefkit.backbones.unet_backbone:UNetBackbone",
}


def load_backbone(name: str = "tiny", checkpoint: str | Path | None = None, device: Any = None) -> Backbone:
    """Loads a backbone: the class that the name stands for offers `from_pretrained(checkpoint, device=…)`.

    Args:
        name: "tiny", "hallo4", "unet", an entry point of the group `prefkit.backbones`, or "package.module:Class".
        checkpoint: a folder or file of weights; None where the backbone has some of its own.
        device: where to compute; None for the CPU.

    Raises:
        PrefkitError: nothing has this name, or its weights are missing.
    """
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        kind = getattr(importlib.import_module(module), attribute)
    else:
        kind = load_plugin(BACKBONES, name, own=tuple(OWN))
    given = {} if checkpoint is None else {"checkpoint": checkpoint}
    return kind.from_pretrained(**given, device=device)
