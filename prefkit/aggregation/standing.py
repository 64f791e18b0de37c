"""Which votes count."""

from typing import Any

import pandas as pd

from prefkit.errors import PrefkitError
from prefkit.tables import CHOICES

# What makes two rows the same answer to the same question.
ANSWER = ["comparison_id", "annotator", "criterion", "repeat"]
NOT_HUMAN = ("simulated", "model")


def standing_votes(votes: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The votes that count, and how many do not, by reason.

    Left out are copies of a vote that was sent twice, votes that another row supersedes, undos, repeats
    asked for self-consistency (they are no second opinion), and all but an annotator's latest answer to a
    question.

    Args:
        votes: rows of `prefkit.tables.VOTES`, in any order.

    Returns:
        The rows that count, by time and id, and {reason: how many are left out}.

    Raises:
        PrefkitError: a choice that is none of `CHOICES`, or one vote id with two different answers.
    """
    unknown = sorted(set(votes["choice"].dropna().unique()) - set(CHOICES))
    if unknown:
        raise PrefkitError(f"votes hold the choice {unknown[0]!r}; expected one of {', '.join(CHOICES)}")
    dropped: dict[str, int] = {}

    def keep(frame: pd.DataFrame, mask: pd.Series, reason: str) -> pd.DataFrame:
        lost = int((~mask).sum())
        if lost:
            dropped[reason] = lost
        return frame[mask]

    once = votes.drop_duplicates(["vote_id", "choice", *ANSWER])
    contradicting = once["vote_id"].duplicated()
    if contradicting.any():
        raise PrefkitError(
            f"vote {once.loc[contradicting, 'vote_id'].iloc[0]} is there twice with different answers; "
            "a vote id stands for one answer, so export the votes again"
        )
    if len(once) < len(votes):
        dropped["vote sent twice"] = len(votes) - len(once)
    standing = once.sort_values(["created_at", "vote_id"], kind="stable")
    standing = keep(standing, ~standing["vote_id"].isin(once["supersedes"].dropna()), "vote superseded or undone")
    standing = keep(standing, standing["choice"].notna(), "undo")
    standing = keep(standing, standing["repeat"].fillna(0) == 0, "repeat asked for self-consistency")
    standing = keep(standing, ~standing.duplicated(ANSWER, keep="last"), "earlier answer of the same annotator")
    return standing.reset_index(drop=True), dropped


def source_kind(source: Any) -> str:
    """Returns simulated, model or human: what must not mix silently."""
    return source if source in NOT_HUMAN else "human"
