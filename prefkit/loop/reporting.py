"""The report of a workspace: one HTML page about all of its stages."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.errors import PrefkitError
from prefkit.loop.evaluating import held_out_clips, with_a_partner
from prefkit.loop.rounds import round_history
from prefkit.metrics.catalogue import METRICS
from prefkit.reporting.report import ClipRow, Evaluation, ReportData, Stage, write_report
from prefkit.synthetic.conditions import LICENCE
from prefkit.synthetic.known_truth import DESCRIPTIONS
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, SCORES
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

CRITERIA_SHOWN = {
    "motion_video_alignment": "votes: mouth, head and shoulders move with the speech and the driving motion",
    "expression": "votes: the face looks alive and natural",
    "overall": "votes: the clip one would rather show",
}


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
            evaluations=[_evaluation(result) for result in results] + _by_people(workspace),
            metrics=DESCRIPTIONS | CRITERIA_SHOWN | {name: metric.description for name, metric in METRICS.items()},
            training=next(iter(runs.values()))["history"],
            clips=_clip_rows(workspace, results[0], num_clips),
            rounds=round_history(workspace, votes),
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
        sets=result.get("sets", ()),
    )


def _by_people(workspace: Workspace) -> list[Evaluation]:
    """What annotators said of base and tuned clips, where they were asked and answered."""
    found = [json.loads(path.read_text()) for path in sorted(workspace.path("reports").glob("people-*.json"))]
    return [
        Evaluation(
            title=f"{result['run']} against the base, by votes",
            results=result["results"],
            remark=f"{max(row['num_votes'] for row in result['results'])} votes a criterion by "
            f"{max(row['num_annotators'] for row in result['results'])} annotators "
            f"({', '.join(result['results'][0]['sources'])}) on {result['comparisons']} blind comparisons.",
        )
        for result in found
        if result["results"]
    ]


def _clip_rows(workspace: Workspace, result: Mapping[str, Any], count: int) -> list[ClipRow]:
    """Clips of base and tuned model, spread over the conditions in order: no picking."""
    weights_hash = result["base"]["weights_hash"]
    base, tuned = with_a_partner(
        *(held_out_clips(workspace, weights_hash, adapter) for adapter in (None, result["adapter_hash"]))
    )
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
