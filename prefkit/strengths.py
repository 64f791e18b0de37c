"""Votes -> the table of strengths: how good each clip is among the clips of its condition."""

from typing import Any

import pandas as pd

from prefkit.aggregation.model import Aggregation, fit_votes
from prefkit.errors import PrefkitError, nearest_names
from prefkit.tables import COMPARISONS, PURPOSES, STRENGTHS
from prefkit.workspace import Workspace


def write_strengths(
    workspace: Workspace,
    *,
    votes: pd.DataFrame,
    purpose: str = "train",
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    allow_mixed_sources: bool = False,
) -> tuple[dict[str, Any], Aggregation]:
    """Fits the votes on comparisons of one purpose and appends the rows that changed.

    A clip whose votes are gone (undone, or by an annotator who was excluded) gets a row without a strength.

    Args:
        workspace: read: comparisons, strengths; appended to: strengths.
        votes: rows of `prefkit.tables.VOTES`, in any order.
        purpose: of the comparisons whose votes count.
        resamples: bootstrap draws of annotators for the intervals; 0 for none.
        confidence: of the intervals.
        seed: of the draws.
        allow_mixed_sources: fit simulated, model and human votes as one.

    Returns:
        votes (that compare), clips, changed (rows written), dropped (reason -> votes); and what the votes say.

    Raises:
        PrefkitError: an unknown purpose, no vote on its comparisons, mixed sources, an option out of range.
    """
    if purpose not in PURPOSES:
        raise PrefkitError(f"there is no purpose {purpose!r}{nearest_names(purpose, PURPOSES)}")
    comparisons = workspace.read(COMPARISONS)
    wanted = comparisons[comparisons["purpose"] == purpose]
    ours = votes["comparison_id"].isin(wanted["comparison_id"])
    known = votes["comparison_id"].isin(comparisons["comparison_id"])
    dropped = {
        "comparison this workspace does not know": int((~known).sum()),
        "comparison made for another purpose": int((known & ~ours).sum()),
    }
    aggregation = fit_votes(
        votes[ours], wanted, resamples=resamples, confidence=confidence, seed=seed,
        allow_mixed_sources=allow_mixed_sources,
    )  # fmt: skip
    if aggregation.strengths.empty:
        raise PrefkitError(
            f"no vote in {workspace.root} compares clips for {purpose}; vote with 'prefkit annotate {workspace.root}'"
        )
    rows = _changed(workspace.rows(STRENGTHS), _records(aggregation.strengths))
    workspace.append(STRENGTHS, rows)
    summary = {
        "votes": int(aggregation.criteria["num_votes"].sum()),
        "clips": int(aggregation.strengths["candidate_id"].nunique()),
        "changed": len(rows),
        "dropped": {reason: count for reason, count in dropped.items() if count},
    }
    return summary, aggregation


def _records(strengths: pd.DataFrame) -> list[dict[str, Any]]:
    rows = strengths.astype(object).where(strengths.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _changed(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in STRENGTHS.key)

    before = {key(row): row for row in old}
    gone = before.keys() - {key(row) for row in new}
    without = {"strength": None, "low": None, "high": None, "num_votes": 0, "source": None}
    rows = [*new, *(dict(zip(STRENGTHS.key, name, strict=True)) | without for name in sorted(gone))]
    return [row for row in rows if before.get(key(row)) != row]
