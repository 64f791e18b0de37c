"""Training on a workspace's pairs, and the tuned model that comes of it."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prefkit.backbones.adapters import load_adapter
from prefkit.backbones.contract import Backbone
from prefkit.backbones.tiny import TinyBackbone
from prefkit.cards import model_card
from prefkit.errors import PrefkitError
from prefkit.sampling import sample_candidates
from prefkit.scoring import score_candidates
from prefkit.skeletons.keypoints import read_keypoints
from prefkit.tables import CONDITIONS, SCORES
from prefkit.workspace import Workspace, atomic_write
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
    record = train_dpo(
        workspace.path("pairs"),
        folder,
        own,
        config,
        cache_folder=workspace.path("cache"),
        weight_map=KeypointRegions(workspace, own.frame_size, regions) if regions else None,
        sample_hook=partial(sample_and_score, workspace, folder / "samples"),
    )
    if config.process_index == 0:
        write_card(workspace, run)
    return record


def write_card(workspace: Workspace, run: str) -> None:
    """Writes the README.md beside a finished run's adapter: how it was made and, once evaluated, what it is worth."""
    folder = _finished_adapter(workspace, run)
    evaluation, dataset = workspace.path(f"reports/evaluation-{run}.json"), workspace.path("pairs/prefkit.json")
    card = model_card(
        json.loads((folder.parent / "run.json").read_text()),
        evaluation=json.loads(evaluation.read_text()) if evaluation.exists() else None,
        dataset=json.loads(dataset.read_text()) if dataset.exists() else None,
    )
    path = folder / "README.md"
    if path.exists() and path.read_text() == card:
        return
    with atomic_write(path) as temporary:
        temporary.write_text(card)


def sample_and_score(
    workspace: Workspace, folder: Path, backbone: Backbone, step: int, rows: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Samples the model as it is on conditions of held-out pairs, and measures the clips.

    Args:
        workspace: has the conditions.
        folder: gets step-<step>, a workspace of its own with clips and scores.
        backbone: the model.
        step: of training.
        rows: of held-out pairs.

    Returns:
        The mean of each metric that could be measured.
    """
    shown = Workspace.create(folder / f"step-{step:06d}")
    wanted = {row["condition_id"] for row in rows}
    files = ("reference_image", "audio", "skeleton", "keypoints", "truth")
    conditions = [row for row in workspace.rows(CONDITIONS) if row["condition_id"] in wanted]
    absolute = [
        {**row, **{name: str(workspace.path(row[name]).resolve()) for name in files if row[name] is not None}}
        for row in conditions
    ]
    shown.append(CONDITIONS, absolute)
    sample_candidates(shown, backbone, per_condition=1)
    score_candidates(shown)
    measured = shown.read(SCORES).dropna(subset=["value"])
    return {str(name): float(value) for name, value in measured.groupby("metric")["value"].mean().items()}


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
        points = read_keypoints(self.workspace.path(path), self.frame_size)
        return region_map(points[row["start"] : row["stop"]], self.regions, self.frame_size, shape)


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
