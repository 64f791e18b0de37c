"""Training on a workspace's pairs, and the tuned model that comes of it."""

from collections.abc import Mapping
from typing import Any

from prefkit.backbones.adapters import load_adapter
from prefkit.backbones.contract import Backbone
from prefkit.backbones.tiny import TinyBackbone
from prefkit.errors import PrefkitError
from prefkit.workspace import Workspace
from trainers.config import DiffusionDPOConfig
from trainers.train import train_dpo


def tune(workspace: Workspace, run: str, options: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
    """Trains the tiny model on the workspace's pairs; returns the run's record."""
    folder = workspace.path(f"runs/{run}")
    config = DiffusionDPOConfig(output_dir=str(folder), seed=seed, use_cpu=True, **options)
    return train_dpo(
        workspace.path("pairs"), folder, TinyBackbone.from_pretrained(), config, cache_folder=workspace.path("cache")
    )


def tuned_backbone(workspace: Workspace, run: str) -> tuple[Backbone, str]:
    """The tiny model with a finished run's adapter, and the adapter's hash.

    Raises:
        PrefkitError: there is no such run, or it is not finished.
    """
    adapter = workspace.path(f"runs/{run}/adapter")
    if not adapter.exists():
        finished = sorted(path.parent.name for path in workspace.path("runs").glob("*/adapter"))
        raise PrefkitError(
            f"{workspace.root} has no finished run {run!r} (finished: {', '.join(finished) or 'none'}); "
            "train one with 'prefkit train-dpo'"
        )
    backbone = TinyBackbone.from_pretrained()
    return backbone, load_adapter(backbone, adapter)
