"""More than offline pairs: the tuned model samples the next round's candidates, and people compare those."""

import json
from typing import Any

import pandas as pd

from prefkit.backbones.contract import Backbone
from prefkit.comparisons import make_comparisons
from prefkit.loop.tuning import tuned_backbone
from prefkit.sampling import sample_candidates
from prefkit.scoring import score_candidates
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, SCORES
from prefkit.workspace import Workspace

SPLITS = ("train", "test")  # held-out conditions are for evaluation alone
# What the report shows of each round's clips, where it was scored.
SHOWN_METRICS = ("sync_c", "sync_d", "sync_d0", "av_corr0", "flow_acceleration")


def open_round(
    workspace: Workspace,
    run: str,
    *,
    backbone: Backbone | None = None,
    per_condition: int = 4,
    comparisons: int | None = 3,
    target_votes: int = 3,
    strategy: str = "random",
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Samples the next round's candidates with a tuned model, scores them and opens their comparisons.

    A model has one round: called again for the same run, it does what is missing of that one.

    Args:
        workspace: read and appended to.
        run: whose tuned model samples.
        backbone: what the run tuned; by default the tiny model.
        per_condition: clips a condition of the train and test split gets.
        comparisons: at most so many a condition; None for every possible one.
        target_votes: how many votes each wants.
        strategy: of choosing them, see `prefkit.comparisons.make_comparisons`.
        seed: each round's clips have seeds of their own.
        workers: processes that score.

    Returns:
        round, adapter_hash, and what sampling, scoring and comparing said.
    """
    tuned, adapter_hash = tuned_backbone(workspace, run, backbone)
    number = _round_of(workspace.read(CANDIDATES), adapter_hash)
    existing = {row["split"] for row in workspace.rows(CONDITIONS)}
    sampled = [
        sample_candidates(
            workspace, tuned, per_condition=per_condition, split=split, seed=seed + number, round=number,
            adapter_hash=adapter_hash,
        )
        for split in SPLITS
        if split in existing
    ]  # fmt: skip
    scored = score_candidates(workspace, workers=workers)
    compared = make_comparisons(
        workspace, per_condition=comparisons, target_votes=target_votes, seed=seed, round=number, strategy=strategy
    )
    return {
        "round": number,
        "adapter_hash": adapter_hash,
        "clips": sum(summary["made"] + summary["already_there"] for summary in sampled),
        "scored": scored["scored"],
        "comparisons": compared["made"] + compared["already_there"],
    }


def round_history(workspace: Workspace, votes: pd.DataFrame) -> list[dict[str, Any]]:
    """One dict per round: round, model, clips, comparisons, votes, and the mean of what `SHOWN_METRICS` found."""
    candidates, comparisons = workspace.read(CANDIDATES), workspace.read(COMPARISONS)
    asked = comparisons[comparisons["purpose"] == "train"]
    taking_part = candidates[candidates["candidate_id"].isin([*asked["candidate_a"], *asked["candidate_b"]])]
    scores = workspace.read(SCORES).dropna(subset=["value"])
    names = _run_names(workspace)
    rows = []
    for number in sorted(taking_part["round"].unique()):
        clips = taking_part[taking_part["round"] == number]
        of_round = asked[asked["round"] == number]
        found = scores[scores["candidate_id"].isin(clips["candidate_id"])].groupby("metric")["value"].mean()
        adapters = clips["adapter_hash"].dropna().unique()
        rows.append(
            {
                "round": int(number),
                "model": ", ".join(names.get(adapter, adapter) for adapter in adapters) or "base",
                "clips": len(clips),
                "comparisons": len(of_round),
                "votes": int(votes["comparison_id"].isin(of_round["comparison_id"]).sum()),
                "means": {name: float(found[name]) for name in SHOWN_METRICS if name in found},
            }
        )
    return rows


def _round_of(candidates: pd.DataFrame, adapter_hash: str) -> int:
    own = candidates.loc[(candidates["adapter_hash"] == adapter_hash) & (candidates["round"] > 0), "round"]
    return int(own.iloc[0]) if len(own) else int(candidates["round"].fillna(0).max()) + 1


def _run_names(workspace: Workspace) -> dict[str, str]:
    """adapter_hash -> the name of the finished run that made it."""
    paths = sorted(workspace.path("runs").glob("*/run.json"))
    records = {path.parent.name: json.loads(path.read_text()) for path in paths}
    return {record["adapter_hash"]: name for name, record in records.items() if record["finished"]}
