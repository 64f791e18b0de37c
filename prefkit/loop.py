"""The stages put together: evaluation and report of a run, and the whole loop on synthetic portraits.

Only this module and the command line know all stages; they see only their tables.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.backbones.adapters import load_adapter
from prefkit.backbones.contract import Backbone
from prefkit.backbones.tiny import TinyBackbone
from prefkit.comparisons import make_comparisons
from prefkit.errors import PrefkitError
from prefkit.evaluation import clip_scores, compare_models
from prefkit.metrics.catalogue import METRICS
from prefkit.pairs import build_pairs
from prefkit.reporting.report import ClipRow, Evaluation, ReportData, Stage, write_report
from prefkit.sampling import sample_candidates
from prefkit.scoring import score_candidates
from prefkit.synthetic.conditions import LICENCE, add_portraits, check_portraits
from prefkit.synthetic.judge import TIE_MARGIN, make_judge
from prefkit.synthetic.known_truth import DESCRIPTIONS, DIRECTIONS, known_truth_scores
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, SCORES
from prefkit.votes.simulated import simulate_votes
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace, atomic_write
from trainers.config import DiffusionDPOConfig
from trainers.train import train_dpo

# Conditions of this split are never asked about and never trained on.
HELD_OUT = "evaluate"
# The loss in each measure's unit that tuning may cost and still count as not inferior: about a quarter of
# the measure's standard deviation over clips of the base model.
MARGINS = {"true_head_motion": 0.05, "true_mouth_range": 2.0, "true_blink_rate": 0.3}

Row = dict[str, Any]

# What suits the tiny model on a CPU.
TRAINING: dict[str, Any] = {
    "max_steps": 120,
    "beta": 500.0,
    "sft_weight": 20.0,
    "learning_rate": 2e-4,
    "lora_r": 16,
    "lora_alpha": 32,
    # nearer to the clip the error is about texture, which the tiny model cannot help
    "timestep_low": 200.0,
    "eval_pairs": 32,
    "logging_steps": 5,
    "eval_steps": 40,
    "save_steps": 40,
}


@dataclass(frozen=True)
class LoopSize:
    """How much of everything a run of the whole loop makes."""

    train: int = 64  # conditions
    test: int = 16  # conditions whose pairs are held out of training
    evaluate: int = 40  # conditions for base against tuned
    candidates: int = 4  # per condition
    comparisons: int = 3  # per condition
    votes: int = 3  # per comparison
    annotators: int = 5
    error_rate: float = 0.1
    left_bias: float = 0.05
    training: Mapping[str, Any] = field(default_factory=lambda: dict(TRAINING))  # of `DiffusionDPOConfig`


DEMO = LoopSize()


def run_loop(root: str | Path, size: LoopSize, *, seed: int = 0, workers: int = 1) -> Path:
    """Runs sample → score → compare → annotate → build-pairs → train-dpo → evaluate → report; returns the report.

    Every stage does only what is missing, so a second call in the same folder changes nothing.
    """
    check_portraits({"train": size.train, "test": size.test, HELD_OUT: size.evaluate}, seed=seed)
    workspace = Workspace.create(root)
    prepare_pairs(workspace, size, seed=seed, workers=workers)
    tune(workspace, "dpo", size.training, seed=seed)
    evaluate(workspace, "dpo", seed=seed, workers=workers)
    return report(workspace)


def prepare_pairs(workspace: Workspace, size: LoopSize, *, seed: int, workers: int) -> dict[str, Any]:
    """From nothing to the preference dataset, with simulated annotators; returns the summary of build-pairs."""
    backbone = TinyBackbone.from_pretrained()
    add_portraits(workspace, {"train": size.train, "test": size.test, HELD_OUT: size.evaluate}, seed=seed)
    for split in ("train", "test"):
        sample_candidates(workspace, backbone, per_condition=size.candidates, split=split, seed=seed)
    score_candidates(workspace, workers=workers)
    for split in ("train", "test"):
        make_comparisons(workspace, per_condition=size.comparisons, target_votes=size.votes, seed=seed, split=split)
    voted = simulate_votes(
        workspace,
        make_judge(workspace),
        annotators=size.annotators,
        error_rate=size.error_rate,
        left_bias=size.left_bias,
        tie_margin=TIE_MARGIN,
        seed=seed,
    )
    built = workspace.path("pairs/prefkit.json")
    if built.exists() and not voted.votes:
        return json.loads(built.read_text())
    votes = VoteStore.in_workspace(workspace).votes()
    return build_pairs(workspace, votes=votes, criteria=["overall"])


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


def evaluate(
    workspace: Workspace, run: str, *, per_condition: int = 1, seed: int = 0, workers: int = 1
) -> dict[str, Any]:
    """Samples base and tuned model on held-out conditions with the same seeds and compares them.

    Writes reports/evaluation-<run>.json and returns its content; one of the same models, seed and metrics
    is not made again.
    """
    base = TinyBackbone.from_pretrained()
    tuned, adapter_hash = tuned_backbone(workspace, run)
    options: dict[str, Any] = {"per_condition": per_condition, "split": HELD_OUT, "seed": seed + 1}
    sample_candidates(workspace, base, **options)
    sample_candidates(workspace, tuned, adapter_hash=adapter_hash, **options)
    score_candidates(workspace, workers=workers)
    what = {
        "run": run,
        "base": {"name": base.name, "weights_hash": base.weights_hash},
        "adapter_hash": adapter_hash,
        "seed": seed,
        "per_condition": per_condition,
        "metrics": {name: metric.version for name, metric in METRICS.items()},
    }
    path = workspace.path(f"reports/evaluation-{run}.json")
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if what.items() <= earlier.items():
        return earlier
    result = what | {"results": _compare_with_base(workspace, adapter_hash, seed)}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _compare_with_base(workspace: Workspace, adapter_hash: str, seed: int) -> list[Row]:
    base, tuned = _with_a_partner(held_out_clips(workspace, None), held_out_clips(workspace, adapter_hash))
    scores = all_scores(workspace, base), all_scores(workspace, tuned)
    synthetic = bool(scores[0]["metric"].isin(list(DIRECTIONS)).any())
    directions = (DIRECTIONS if synthetic else {}) | {name: metric.direction for name, metric in METRICS.items()}
    return compare_models(*scores, directions, margins=MARGINS if synthetic else None, seed=seed)


def held_out_clips(workspace: Workspace, adapter_hash: str | None) -> list[Row]:
    """Candidates of held-out conditions by one model."""
    held_out = {row["condition_id"] for row in workspace.rows(CONDITIONS) if row["split"] == HELD_OUT}
    return [
        row
        for row in workspace.rows(CANDIDATES)
        if row["condition_id"] in held_out and row["adapter_hash"] == adapter_hash and row["error"] is None
    ]


def _with_a_partner(first: list[Row], second: list[Row]) -> tuple[list[Row], list[Row]]:
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


def report(workspace: Workspace, output: str | Path | None = None, *, num_clips: int = 8) -> Path:
    """Writes one HTML page about what the workspace holds; returns its path.

    Raises:
        PrefkitError: nothing has been evaluated yet.
    """
    evaluations = sorted(workspace.path("reports").glob("evaluation-*.json"))
    if not evaluations:
        raise PrefkitError(f"{workspace.root} has no evaluation to report; make one with 'prefkit evaluate'")
    results = [json.loads(path.read_text()) for path in evaluations]
    runs = {
        result["run"]: json.loads(workspace.path(f"runs/{result['run']}/run.json").read_text()) for result in results
    }
    conditions = workspace.rows(CONDITIONS)
    votes = VoteStore.in_workspace(workspace, create=False).votes()
    built = json.loads(workspace.path("pairs/prefkit.json").read_text())
    path = Path(output) if output is not None else workspace.path("reports/report.html")
    write_report(
        path,
        ReportData(
            title="Preference tuning of the tiny portrait model",
            stages=_stages(workspace, votes, built, runs),
            funnel=built["funnel"],
            evaluations=[_evaluation(result) for result in results],
            metrics=DESCRIPTIONS | {name: metric.description for name, metric in METRICS.items()},
            training=next(iter(runs.values()))["history"],
            clips=_clip_rows(workspace, results[0], num_clips),
            provenance=_provenance(results, runs),
            num_votes=len(votes),
            num_simulated=int((votes["source"] == "simulated").sum()),
            synthetic_portraits=any(row["licence"] == LICENCE for row in conditions),
        ),
    )
    return path


def _stages(
    workspace: Workspace, votes: pd.DataFrame, built: Mapping[str, Any], runs: Mapping[str, Any]
) -> list[Stage]:
    candidates = workspace.rows(CANDIDATES)
    scores = workspace.read(SCORES)
    return [
        Stage("sample", len(candidates), "clips", f"of {len(workspace.rows(CONDITIONS))} conditions"),
        Stage("score", int(scores["value"].notna().sum()), "values", f"{int(scores['value'].isna().sum())} not scored"),
        Stage("compare", len(workspace.rows(COMPARISONS)), "questions"),
        Stage("annotate", len(votes), "votes", f"by {votes['annotator'].nunique()} annotators"),
        Stage(
            "build-pairs",
            sum(built["pairs"].values()),
            "pairs",
            ", ".join(f"{n} {s}" for s, n in built["pairs"].items()),
        ),
        Stage("train-dpo", sum(1 for run in runs.values() if run["finished"]), "runs", ", ".join(runs)),
    ]


def _evaluation(result: Mapping[str, Any]) -> Evaluation:
    measured = {row["metric"] for row in result["results"]}
    return Evaluation(
        title=f"{result['run']} against the base",
        results=result["results"],
        primary="true_lip_sync" if "true_lip_sync" in measured else None,
        remark="Held-out conditions, unseen by annotators and training, sampled with the same seeds by both models.",
    )


def _clip_rows(workspace: Workspace, result: Mapping[str, Any], count: int) -> list[ClipRow]:
    """Clips of base and tuned model, spread over the conditions in order: no picking."""
    base, tuned = _with_a_partner(held_out_clips(workspace, None), held_out_clips(workspace, result["adapter_hash"]))
    both = list(zip(base, tuned, strict=True))
    return [
        ClipRow(
            title=f"Condition {first['condition_id']}",
            clips={"base": workspace.path(first["clip"]), "tuned": workspace.path(second["clip"])},
            remark=f"seed {first['seed']}",
        )
        for first, second in both[:: max(1, len(both) // count)][:count]
    ]


def _provenance(results: Sequence[Mapping[str, Any]], runs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {
        "software": {"prefkit": version("prefkit"), "python": platform.python_version()},
        "base model": dict(results[0]["base"]),
    }
    for name, run in runs.items():
        parts["software"] |= run["versions"]
        parts[f"run {name}"] = {
            "adapter": run["adapter_hash"],
            "dataset": run["dataset"]["fingerprint"],
            "seed": run["seed"],
            "seconds": run["seconds"],
            **{key: value for key, value in run["config"].items() if key != "seed"},
        }
    return parts
