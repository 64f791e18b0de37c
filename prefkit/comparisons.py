"""Candidates (and scores, and votes so far) -> the comparisons worth asking."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from prefkit.choosing import Pair, closest_first, disputed_first, score_table, shuffled
from prefkit.errors import PrefkitError, nearest_names
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, PURPOSES, SCORES, content_id
from prefkit.workspace import Workspace

STRATEGIES = ("random", "metric-close", "metric-disagreement", "active")
# Ratios that say a clip shows or says nothing at all; nobody should be asked about it.
BROKEN_AT_ONE = ("freeze_ratio", "black_ratio", "silent_ratio")


def make_comparisons(
    workspace: Workspace,
    *,
    purpose: str = "train",
    per_condition: int | None = None,
    target_votes: int = 3,
    stop_margin: int | None = None,
    seed: int = 0,
    round: int = 0,
    strategy: str = "random",
    metric: str | None = None,
    votes: pd.DataFrame | None = None,
    criterion: str = "overall",
    split: str | None = None,
    include_broken: bool = False,
    adapter_hash: str | None = None,
) -> dict[str, Any]:
    """Appends the comparisons that are missing, within conditions and with a < b.

    For the purposes train and gold any two candidates of a condition and of this round may meet; for
    evaluate a clip without an adapter meets clips with one that have its weights and seed. A condition that already
    has `per_condition` comparisons of this purpose and round gets no more.

    What is asked first:

    - random
    - metric-close: the smallest difference in scores (where a metric cannot decide, a vote says most)
    - metric-disagreement: where some metrics prefer the one clip and some the other, by as much
    - active: what the votes so far leave open; each question is the one whose answers are expected to tell
      most about the strengths of the condition's clips, given those chosen before it and those that are
      asked but not answered (`prefkit.aggregation.information`). Scores, where there are any, are what is
      believed before the first vote, as far as the votes bear them out

    Args:
        workspace: read: conditions, candidates, scores, comparisons; appended to: comparisons.
        purpose: train, gold or evaluate.
        per_condition: how many a condition gets at most; None for every possible one.
        target_votes: how many votes each wants (at most, with `stop_margin`), ≥ 1.
        stop_margin: stop asking when one answer leads by so many votes, ≥ 1; None to ask `target_votes` times.
        seed: of the random order, which also decides between questions worth the same; a condition's order
            depends on nothing but this, its candidates and what the strategy looks at.
        round: of the candidates and of the comparisons made.
        strategy: one of `STRATEGIES`.
        metric: the one that metric-close and active look at; None for the mean over all, each in units of
            its own standard deviation.
        votes: rows of `prefkit.tables.VOTES`; active looks at those on comparisons made for training.
        criterion: the one whose votes active looks at.
        split: only conditions of this split; None for all.
        include_broken: also ask about clips that are frozen, black or silent from end to end.
        adapter_hash: for evaluate, the tuned model whose clips meet the base's; None for all tuned models.

    Returns:
        made, already_there, conditions (those that have a comparison), dropped (reason -> how many).

    Raises:
        PrefkitError: nothing to compare, an unknown purpose, strategy, split or metric, a number below one,
            a metric given to a strategy that looks at none or at several.
    """
    _check(purpose, strategy, metric, {"comparisons per condition": per_condition, "target votes": target_votes,
                                       "the stopping margin": stop_margin})  # fmt: skip
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
    known = workspace.read(COMPARISONS)
    existing = known[(known["purpose"] == purpose) & (known["round"] == round)]
    asked_in = existing.groupby("condition_id")["comparison_id"].agg(set).to_dict()
    order = _order(strategy, usable, scores, metric, known, votes, criterion, target_votes)

    rows: list[dict[str, Any]] = []
    num_conditions = 0
    for condition_id, group in usable.groupby("condition_id", sort=True):
        possible = _possible_pairs(group, purpose)
        if not possible:
            dropped["condition with fewer than two usable candidates"] += 1
            continue
        num_conditions += 1
        asked = asked_in.get(condition_id, set())
        open_pairs = [pair for pair in possible if comparison_id(*pair, purpose) not in asked]
        room = len(open_pairs) if per_condition is None else max(per_condition - len(asked), 0)
        if not open_pairs or not room:
            continue
        chosen = order(str(condition_id), shuffled(open_pairs, str(condition_id), seed), room)
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
                "stop_margin": stop_margin,
            }
            for a, b in chosen
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


# (condition, open pairs in random order, how many) -> those to ask, best first
Order = Callable[[str, list[Pair], int], list[Pair]]


def _order(
    strategy: str,
    candidates: pd.DataFrame,
    scores: pd.DataFrame,
    metric: str | None,
    comparisons: pd.DataFrame,
    votes: pd.DataFrame | None,
    criterion: str,
    target_votes: int,
) -> Order:
    if strategy == "random":
        return lambda _, pairs, count: pairs[:count]
    if strategy == "metric-close":
        table = score_table(candidates, scores, metric, strategy)
        return lambda _, pairs, count: closest_first(pairs, table)[:count]
    if strategy == "metric-disagreement":
        table = score_table(candidates, scores, None, strategy)
        return lambda _, pairs, count: disputed_first(pairs, table)[:count]
    from prefkit.active import ActiveChoice  # SciPy is not on a machine that only annotates

    return ActiveChoice.of(candidates, scores, metric, comparisons, votes, criterion, target_votes).choose


def _check(purpose: str, strategy: str, metric: str | None, at_least_one: dict[str, int | None]) -> None:
    if purpose not in PURPOSES:
        raise PrefkitError(f"there is no purpose {purpose!r}{nearest_names(purpose, PURPOSES)}")
    if strategy not in STRATEGIES:
        raise PrefkitError(f"there is no strategy {strategy!r}{nearest_names(strategy, STRATEGIES)}")
    if metric is not None and strategy in ("random", "metric-disagreement"):
        raise PrefkitError(
            f"the strategy {strategy} does not look at one metric, got {metric!r}; leave it out, "
            "or choose metric-close or active"
        )
    for name, number in at_least_one.items():
        if number is not None and number < 1:
            raise PrefkitError(f"{name} must be at least 1, got {number}")


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
    met = base.merge(tuned, on=["weights_hash", "seed"], suffixes=("_base", "_tuned"))
    pairs = zip(met["candidate_id_base"], met["candidate_id_tuned"], strict=True)
    return sorted((min(pair), max(pair)) for pair in pairs)


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
