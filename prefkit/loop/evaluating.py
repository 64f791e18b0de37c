"""Base against tuned model on held-out conditions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.backbones.contract import Backbone, with_own_model
from prefkit.backbones.tiny import TinyBackbone
from prefkit.evaluation import clip_scores, compare_models
from prefkit.loop.real_clips import against_real, describe_real
from prefkit.loop.sizes import HELD_OUT, MARGINS
from prefkit.loop.tuning import tuned_backbone, write_card
from prefkit.metrics.catalogue import METRICS
from prefkit.metrics.set_features import SIZES
from prefkit.metrics.weight_files import local_file, weights_hash
from prefkit.sampling import sample_candidates
from prefkit.scoring import score_candidates
from prefkit.synthetic.known_truth import DIRECTIONS, known_truth_scores
from prefkit.tables import CANDIDATES, CONDITIONS, SCORES
from prefkit.workspace import Workspace, atomic_write

Row = dict[str, Any]
SET_NETWORKS = {*SIZES, "mediapipe_landmarks"}  # what set-level measures read


def evaluate(
    workspace: Workspace,
    run: str,
    *,
    backbone: Backbone | None = None,
    per_condition: int = 1,
    seed: int = 0,
    workers: int = 1,
    weights: Mapping[str, str | Path] | None = None,
    real: str | Path | None = None,
) -> dict[str, Any]:
    """Samples base and tuned model on held-out conditions with the same seeds and compares them.

    Writes reports/evaluation-<run>.json and returns its content; one of the same models, seed and metrics
    is not made again.

    Args:
        workspace: has the run and conditions of the split evaluate.
        run: the tuned model's.
        backbone: the base, without an adapter; by default the tiny model.
        per_condition: clips of each model a condition gets.
        seed: of the clips and the bootstrap.
        workers: processes that score.
        weights: of the metrics' networks, and of the set-level extractors inception and i3d: a path, or
            hf://owner/repo/file.
        real: a folder of real clips, to which both models' distances as sets are measured.

    Raises:
        PrefkitError: there is no such run, nothing is held out, a weight file is unknown, or `real` holds
            fewer than two clips.
    """
    files = {name: local_file(path) for name, path in (weights or {}).items()}
    of_sets = {name: path for name, path in files.items() if name in SET_NETWORKS}
    measured_against = {} if real is None else {"real": describe_real(Path(real), of_sets)}
    base: Backbone = TinyBackbone.from_pretrained() if backbone is None else backbone
    adapter_hash = sample_both(workspace, run, base, per_condition=per_condition, seed=seed)
    of_clips = {name: path for name, path in files.items() if name not in SIZES}
    score_candidates(workspace, weights=of_clips, workers=workers)
    what = {
        "run": run,
        "base": {"name": base.name, "weights_hash": base.weights_hash},
        "adapter_hash": adapter_hash,
        "seed": seed,
        "per_condition": per_condition,
        "metrics": {name: metric.version for name, metric in METRICS.items()},
        **({"weights": {name: weights_hash(path) for name, path in of_clips.items()}} if of_clips else {}),
        **measured_against,
    }
    path = workspace.path(f"reports/evaluation-{run}.json")
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if what.items() <= earlier.items():
        return earlier
    both = (held_out_clips(workspace, base.weights_hash, adapter) for adapter in (None, adapter_hash))
    base_clips, tuned_clips = with_a_partner(*both)
    result = what | {"results": _compare(workspace, base_clips, tuned_clips, seed)}
    if real is not None:
        models = {"base": base_clips, "tuned": tuned_clips}
        result["sets"] = against_real(workspace, models, Path(real), of_sets)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    write_card(workspace, run)
    return result


def sample_both(workspace: Workspace, run: str, base: Backbone, *, per_condition: int, seed: int) -> str:
    """Samples what is missing of base and tuned model's held-out clips; returns the tuned one's adapter hash."""
    tuned, adapter_hash = tuned_backbone(workspace, run, with_own_model(base))
    options: dict[str, Any] = {"per_condition": per_condition, "split": HELD_OUT, "seed": seed + 1}
    sample_candidates(workspace, base, **options)
    sample_candidates(workspace, tuned, adapter_hash=adapter_hash, **options)
    return adapter_hash


def _compare(workspace: Workspace, base: list[Row], tuned: list[Row], seed: int) -> list[Row]:
    scores = all_scores(workspace, base), all_scores(workspace, tuned)
    synthetic = bool(scores[0]["metric"].isin(list(DIRECTIONS)).any())
    directions = (DIRECTIONS if synthetic else {}) | {name: metric.direction for name, metric in METRICS.items()}
    return compare_models(*scores, directions, margins=MARGINS if synthetic else None, seed=seed)


def held_out_clips(workspace: Workspace, weights_hash: str, adapter_hash: str | None) -> list[Row]:
    """Candidates of held-out conditions by one model: a base, or a tuned one by its adapter."""
    held_out = {row["condition_id"] for row in workspace.rows(CONDITIONS) if row["split"] == HELD_OUT}
    return [
        row
        for row in workspace.rows(CANDIDATES)
        if row["condition_id"] in held_out
        and (row["weights_hash"], row["adapter_hash"]) == (weights_hash, adapter_hash)
        and row["error"] is None
    ]


def with_a_partner(first: list[Row], second: list[Row]) -> tuple[list[Row], list[Row]]:
    """The clips whose condition and seed the other model has too, both in the same order."""
    others = {(row["condition_id"], row["seed"]): row for row in second}
    shared = [row for row in first if (row["condition_id"], row["seed"]) in others]
    return shared, [others[row["condition_id"], row["seed"]] for row in shared]


def all_scores(workspace: Workspace, candidates: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Metrics of these clips and, where it is known, what truth says of them: condition_id, seed, metric, value."""
    frame = pd.DataFrame(candidates)
    scores = clip_scores(workspace.read(SCORES), frame)
    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    known = [row for row in candidates if conditions[row["condition_id"]]["truth"] is not None]
    truth = known_truth_scores(workspace, known, conditions)
    return pd.concat([scores, pd.DataFrame(truth)], ignore_index=True) if truth else scores
