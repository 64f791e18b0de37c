"""Candidates (and scores) -> the comparisons worth asking."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError, nearest_names
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, PURPOSES, SCORES, content_id
from prefkit.workspace import Workspace

STRATEGIES = ("random", "metric-close")
# Ratios that say a clip shows or says nothing at all; nobody should be asked about it.
BROKEN_AT_ONE = ("freeze_ratio", "black_ratio", "silent_ratio")


def make_comparisons(
    workspace: Workspace,
    *,
    purpose: str = "train",
    per_condition: int | None = None,
    target_votes: int = 3,
    seed: int = 0,
    round: int = 0,
    strategy: str = "random",
    metric: str | None = None,
    split: str | None = None,
    include_broken: bool = False,
    adapter_hash: str | None = None,
) -> dict[str, Any]:
    """Appends the comparisons that are missing, within conditions and with a < b.

    For the purposes train and gold any two candidates of a condition and of this round may meet; for
    evaluate a clip without an adapter meets clips with one that have its seed. A condition that already
    has `per_condition` comparisons of this purpose and round gets no more.

    Args:
        workspace: read: conditions, candidates, scores, comparisons; appended to: comparisons.
        purpose: train, gold or evaluate.
        per_condition: how many a condition gets at most; None for every possible one.
        target_votes: how many votes each wants, ≥ 1.
        seed: of the random order; a condition's order depends on nothing but this and its candidates.
        round: of the candidates and of the comparisons made.
        strategy: "random", or "metric-close" for the smallest difference in scores first (where a metric
            cannot decide, a vote says most).
        metric: the one that metric-close looks at; None for the mean over all, each in units of its own
            standard deviation.
        split: only conditions of this split; None for all.
        include_broken: also ask about clips that are frozen, black or silent from end to end.
        adapter_hash: for evaluate, the tuned model whose clips meet the base's; None for all tuned models.

    Returns:
        made, already_there, conditions (those that have a comparison), dropped (reason -> how many).

    Raises:
        PrefkitError: nothing to compare, an unknown purpose, strategy, split or metric, a number below one.
    """
    _check(purpose, strategy, per_condition, target_votes)
    candidates = workspace.read(CANDIDATES)
    if candidates.empty:
        raise PrefkitError(
            f"{workspace.root} has no candidates to compare; make some with 'prefkit sample' or 'prefkit import'"
        )
    candidates = _of_split(candidates, workspace.read(CONDITIONS), split)
    if adapter_hash is not None:
        candidates = candidates[candidates["adapter_hash"].isna() | (candidates["adapter_hash"] == adapter_hash)]
    scores = workspace.read(SCORES)
    dropped: Counter[str] = Counter()
    usable = _usable(candidates[candidates["round"].fillna(0) == round], scores, include_broken, dropped)
    existing = workspace.read(COMPARISONS)
    existing = existing[(existing["purpose"] == purpose) & (existing["round"] == round)]
    closeness = _closeness(usable, scores, metric) if strategy == "metric-close" else None

    rows: list[dict[str, Any]] = []
    num_conditions = 0
    for condition_id, group in usable.groupby("condition_id", sort=True):
        possible = _possible_pairs(group, purpose)
        if not possible:
            dropped["condition with fewer than two usable candidates"] += 1
            continue
        num_conditions += 1
        asked = set(existing.loc[existing["condition_id"] == condition_id, "comparison_id"])
        open_pairs = [pair for pair in possible if comparison_id(*pair, purpose) not in asked]
        open_pairs = _ordered(open_pairs, str(condition_id), seed, closeness)
        room = len(open_pairs) if per_condition is None else max(per_condition - len(asked), 0)
        rows += [
            {
                "comparison_id": comparison_id(a, b, purpose),
                "condition_id": condition_id,
                "candidate_a": a,
                "candidate_b": b,
                "purpose": purpose,
                "reason": strategy if metric is None else f"{strategy}: {metric}",
                "round": round,
                "target_votes": target_votes,
            }
            for a, b in open_pairs[:room]
        ]
    if not rows and existing.empty:
        raise PrefkitError(_nothing_to_compare(workspace, purpose, round, dropped))
    workspace.append(COMPARISONS, rows)
    return {
        "made": len(rows),
        "already_there": len(existing),
        "conditions": num_conditions,
        "dropped": dict(sorted(dropped.items())),
    }


def comparison_id(candidate_a: str, candidate_b: str, purpose: str) -> str:
    """The id of a question; it depends on the two clips and the purpose alone."""
    first, second = sorted((candidate_a, candidate_b))
    return content_id("comparison", first, second, purpose)


def _check(purpose: str, strategy: str, per_condition: int | None, target_votes: int) -> None:
    if purpose not in PURPOSES:
        raise PrefkitError(f"there is no purpose {purpose!r}{nearest_names(purpose, PURPOSES)}")
    if strategy not in STRATEGIES:
        raise PrefkitError(f"there is no strategy {strategy!r}{nearest_names(strategy, STRATEGIES)}")
    if per_condition is not None and per_condition < 1:
        raise PrefkitError(f"comparisons per condition must be at least 1, got {per_condition}; leave it out for all")
    if target_votes < 1:
        raise PrefkitError(f"target votes must be at least 1, got {target_votes}")


def _of_split(candidates: pd.DataFrame, conditions: pd.DataFrame, split: str | None) -> pd.DataFrame:
    if split is None:
        return candidates
    known = set(conditions["split"].dropna())
    if split not in known:
        raise PrefkitError(f"no condition has the split {split!r}{nearest_names(split, known or {'none'})}")
    return candidates[candidates["condition_id"].isin(conditions.loc[conditions["split"] == split, "condition_id"])]


def _usable(
    candidates: pd.DataFrame, scores: pd.DataFrame, include_broken: bool, dropped: Counter[str]
) -> pd.DataFrame:
    has_clip = candidates["error"].isna() & candidates["clip"].notna()
    dropped["candidate without a clip"] += int((~has_clip).sum())
    candidates = candidates[has_clip]
    if not include_broken:
        broken = scores[scores["metric"].isin(BROKEN_AT_ONE) & (scores["value"] >= 1)]
        for name, rows in broken.groupby("metric", sort=True):
            hit = candidates["candidate_id"].isin(rows["candidate_id"])
            dropped[f"candidate with {name} 1"] += int(hit.sum())
            candidates = candidates[~hit]
    for reason in [reason for reason, count in dropped.items() if count == 0]:
        del dropped[reason]
    return candidates


def _possible_pairs(group: pd.DataFrame, purpose: str) -> list[tuple[str, str]]:
    if purpose != "evaluate":
        return list(itertools.combinations(sorted(group["candidate_id"]), 2))
    base, tuned = group[group["adapter_hash"].isna()], group[group["adapter_hash"].notna()]
    met = base.merge(tuned, on="seed", suffixes=("_base", "_tuned"))
    pairs = zip(met["candidate_id_base"], met["candidate_id_tuned"], strict=True)
    return sorted((min(pair), max(pair)) for pair in pairs)


def _closeness(candidates: pd.DataFrame, scores: pd.DataFrame, metric: str | None) -> pd.DataFrame:
    """Scores in units of their standard deviation, [candidate, metric]."""
    scores = scores[scores["value"].notna() & scores["candidate_id"].isin(candidates["candidate_id"])]
    if scores.empty:
        raise PrefkitError("metric-close needs scores and there are none; run 'prefkit score' first, or choose random")
    if metric is not None and metric not in set(scores["metric"]):
        raise PrefkitError(f"no candidate has a score of {metric!r}{nearest_names(metric, set(scores['metric']))}")
    if metric is not None:
        scores = scores[scores["metric"] == metric]
    table = scores.pivot_table(index="candidate_id", columns="metric", values="value", aggfunc="last")
    spread = table.std(ddof=0)
    return table / spread.where(spread > 0, 1.0)


def _ordered(
    pairs: list[tuple[str, str]], condition_id: str, seed: int, closeness: pd.DataFrame | None
) -> list[tuple[str, str]]:
    rng = np.random.default_rng(int(content_id("comparisons", seed, condition_id), 16))
    pairs = [pairs[index] for index in rng.permutation(len(pairs))]
    if closeness is None or not pairs:
        return pairs
    first = closeness.reindex([a for a, _ in pairs]).to_numpy()
    second = closeness.reindex([b for _, b in pairs]).to_numpy()
    distances = pd.DataFrame(np.abs(first - second)).mean(axis=1).fillna(np.inf)  # unscored pairs come last
    return [pairs[index] for index in np.argsort(distances.to_numpy(), kind="stable")]


def _nothing_to_compare(workspace: Workspace, purpose: str, round: int, dropped: Counter[str]) -> str:
    found = (
        "; ".join(f"{count} × {reason}" for reason, count in sorted(dropped.items())) or "no candidate of this round"
    )
    needed = (
        "a clip of the base and one of the tuned model with the same seed" if purpose == "evaluate" else "two clips"
    )
    return (
        f"no condition in {workspace.root} has {needed} to compare in round {round} ({found}); "
        "sample more candidates per condition with 'prefkit sample'"
    )
