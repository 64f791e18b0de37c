"""Training on a workspace's pairs, and the tuned model that comes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefkit.backbones.adapters import load_adapter
from prefkit.backbones.contract import Backbone
from prefkit.backbones.tiny import TinyBackbone
from prefkit.errors import PrefkitError
from prefkit.tables import CONDITIONS
from prefkit.workspace import Workspace
from trainers.config import DiffusionDPOConfig
from trainers.train import train_dpo
from trainers.weighting import region_map


def tune(
    workspace: Workspace,
    run: str,
    options: Mapping[str, Any],
    *,
    seed: int,
    regions: Mapping[str, float] | None = None,
    backbone: Backbone | None = None,
    start: str | None = None,
) -> dict[str, Any]:
    """Trains a backbone on the workspace's pairs; returns the run's record.

    Args:
        workspace: has pairs/; gets runs/<run>/.
        run: the run's name.
        options: of `DiffusionDPOConfig`.
        seed: everything random follows from it.
        regions: mouth, face or hands -> weight of errors there; they are found by the driving keypoints.
        backbone: what is trained, in place; by default the tiny model, which trains on the CPU.
        start: a finished run whose tuned model the policy starts as; None for the untuned model.

    Raises:
        PrefkitError: as `trainers.train.train_dpo`, a condition has no keypoints, or there is no such run.
    """
    start_adapter = None if start is None else str(_finished_adapter(workspace, start))
    folder = workspace.path(f"runs/{run}")
    own: Backbone = TinyBackbone.from_pretrained() if backbone is None else backbone
    config = DiffusionDPOConfig(
        output_dir=str(folder),
        seed=seed,
        use_cpu=own.name == TinyBackbone.name,
        **{**options, "start_adapter": start_adapter},
    )
    return train_dpo(
        workspace.path("pairs"),
        folder,
        own,
        config,
        cache_folder=workspace.path("cache"),
        weight_map=KeypointRegions(workspace, own.frame_size, regions) if regions else None,
    )


class KeypointRegions:
    """A `trainers.encoding.WeightMap`: regions of the face and body, placed by the keypoints that drove the clips."""

    def __init__(self, workspace: Workspace, frame_size: tuple[int, int], regions: Mapping[str, float]):
        self.workspace = workspace
        self.frame_size = frame_size
        self.regions = dict(regions)
        self.__name__ = ", ".join(f"{name} × {weight:g}" for name, weight in sorted(self.regions.items()))
        self._paths = {row["condition_id"]: row["keypoints"] for row in workspace.rows(CONDITIONS)}

    def __call__(self, row: Mapping[str, Any], shape: tuple[int, ...]) -> torch.Tensor:
        """The map [1, F, h, w] of a pair."""
        path = self._paths.get(row["condition_id"])
        if path is None:
            raise PrefkitError(
                f"condition {row['condition_id']} has no keypoints, which --region is placed by; leave --region out"
            )
        with np.load(self.workspace.path(path)) as stored:
            points = stored["keypoints"][row["start"] : row["stop"]]
        return region_map(points, self.regions, self.frame_size, shape)


def tuned_backbone(workspace: Workspace, run: str, backbone: Backbone | None = None) -> tuple[Backbone, str]:
    """A backbone (by default the tiny model) with a finished run's adapter put onto it, and the adapter's hash.

    Raises:
        PrefkitError: there is no such run, or it is not finished.
    """
    adapter = _finished_adapter(workspace, run)
    own: Backbone = TinyBackbone.from_pretrained() if backbone is None else backbone
    return own, load_adapter(own, adapter)


def _finished_adapter(workspace: Workspace, run: str) -> Path:
    adapter = workspace.path(f"runs/{run}/adapter")
    if not adapter.exists():
        finished = sorted(path.parent.name for path in workspace.path("runs").glob("*/adapter"))
        raise PrefkitError(
            f"{workspace.root} has no finished run {run!r} (finished: {', '.join(finished) or 'none'}); "
            "train one with 'prefkit train-dpo'"
        )
    return adapter
