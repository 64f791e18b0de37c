"""Which votes count."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

from prefkit.aggregation.standing import source_kind, standing_votes
from prefkit.errors import PrefkitError, nearest_names
from prefkit.pairs.funnel import Step, counts, reasons, step
from prefkit.tables import CRITERIA

FLAGS = ("broken", "offensive")


def chosen_criteria(votes: pd.DataFrame, criteria: Sequence[str] | None) -> list[str]:
    """The criteria that become pairs, sorted; all that were voted on for None.

    Raises:
        PrefkitError: there is no such criterion, or nobody voted on it.
    """
    voted = sorted(set(votes["criterion"].dropna()))
    if criteria is None:
        return voted
    if not criteria:
        raise PrefkitError("no criterion is named; name one, or leave the option out for all")
    for name in criteria:
        if name not in CRITERIA and name not in voted:
            raise PrefkitError(f"there is no criterion {name!r}{nearest_names(name, {*CRITERIA, *voted})}")
        if name not in voted:
            raise PrefkitError(f"nobody voted on {name!r}; there are votes on {', '.join(voted)}")
    return sorted(set(criteria))


def training_votes(votes: pd.DataFrame, comparisons: pd.DataFrame, criteria: list[str]) -> tuple[pd.DataFrame, Step]:
    """The votes that stand, on comparisons made for training, on these criteria.

    Args:
        votes: rows of `prefkit.tables.VOTES` in any order.
        comparisons: all of the workspace.
        criteria: names.

    Returns:
        The votes, and their step of the funnel.

    Raises:
        PrefkitError: none counts, or one vote id stands for two answers.
    """
    standing, dropped = standing_votes(in_order(votes))
    purpose = standing["comparison_id"].map(
        dict(zip(comparisons["comparison_id"], comparisons["purpose"], strict=True))
    )
    dropped["comparison this workspace does not know"] = int(purpose.isna().sum())
    other = purpose.notna() & (purpose != "train")
    for name, count in counts(purpose[other]).items():
        dropped[f"comparison made for another purpose ({name})"] = count
    wanted = standing["criterion"].isin(criteria)
    dropped["another criterion"] = int(((purpose == "train") & ~wanted).sum())
    counted = standing[(purpose == "train") & wanted].reset_index(drop=True)
    found = step("votes", len(votes), dropped)
    if counted.empty:
        raise PrefkitError(
            f"none of {len(votes)} votes counts: {reasons([found])}; vote on this workspace's training comparisons"
        )
    return counted, found


def in_order(votes: pd.DataFrame) -> pd.DataFrame:
    """One order for the same votes, whatever order or parts they came in; copies that differ in a detail too."""
    votes = votes.reset_index(drop=True)
    keys = votes.astype(str)
    keys["created_at"] = votes["created_at"]
    others = sorted(map(str, set(keys) - {"created_at", "vote_id"}))
    ordered = keys.sort_values(["created_at", "vote_id", *others]).index
    return votes.loc[ordered].reset_index(drop=True)


def check_sources(votes: pd.DataFrame, allow_mixed: bool) -> None:
    """Raises PrefkitError where simulated, model and human votes would mix unasked."""
    kinds = counts(votes["source"].map(source_kind))
    if len(kinds) < 2 or allow_mixed:
        return
    found = " and ".join(f"{count} {kind}" for kind, count in kinds.items())
    raise PrefkitError(
        f"the votes mix {found} ones; build from a store with one kind, or allow it with --allow-mixed-sources "
        "(the column 'source' then says which)"
    )


def flagged_comparisons(votes: pd.DataFrame) -> dict[str, str]:
    """Comparison -> the flag (broken before offensive) that at least half of its annotators set.

    Args:
        votes: with the columns comparison_id, annotator and flags (JSON list of names, or null).

    Raises:
        PrefkitError: flags that are no JSON list of known names.
    """
    annotators = votes.groupby("comparison_id")["annotator"].nunique().to_dict()
    by_flag: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in votes[votes["flags"].notna()][["comparison_id", "annotator", "flags"]].to_dict("records"):
        for flag in _flags(row["flags"]):
            by_flag[row["comparison_id"], flag].add(row["annotator"])
    found: dict[str, str] = {}
    for flag in FLAGS:
        for (comparison, name), people in by_flag.items():
            if name == flag and 2 * len(people) >= annotators[comparison]:
                found.setdefault(comparison, flag)
    return found


def _flags(text: Any) -> list[str]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, list) or not set(map(str, found)) <= set(FLAGS):
        raise PrefkitError(f"a vote has the flags {text!r}; expected a JSON list of {' and '.join(FLAGS)}")
    return found
