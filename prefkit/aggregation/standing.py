"""Which votes count."""

from typing import Any

import numpy as np
import pandas as pd

from prefkit.aggregation.coding import CodedVotes, code_votes
from prefkit.errors import PrefkitError

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
    rows, dropped = standing_rows(votes, code_votes(votes))
    standing = votes.iloc[rows].sort_values(["created_at", "vote_id"], kind="stable")
    return standing.reset_index(drop=True), dropped


def standing_rows(votes: pd.DataFrame, coded: CodedVotes) -> tuple[np.ndarray, dict[str, int]]:
    """As `standing_votes`, but where the rows are, int [rows], in the order in which they are there.

    Args:
        votes: the votes.
        coded: the same rows.
    """
    dropped: dict[str, int] = {}
    rows = _each_once(votes)

    def keep(mask: np.ndarray, reason: str) -> np.ndarray:
        if lost := int((~mask).sum()):
            dropped[reason] = lost
        return rows[mask]

    if len(rows) < len(votes):
        dropped["vote sent twice"] = len(votes) - len(rows)
    superseded = votes["supersedes"].dropna()
    if len(superseded):
        gone = votes["vote_id"].isin(superseded).to_numpy()
        rows = keep(~gone[rows], "vote superseded or undone")
    rows = keep(coded.choice[rows] >= 0, "undo")
    rows = keep(coded.repeat[rows] == 0, "repeat asked for self-consistency")
    rows = keep(_latest(votes, rows, coded.answer()[rows]), "earlier answer of the same annotator")
    return rows, dropped


def source_kind(source: Any) -> str:
    """Returns simulated, model or human: what must not mix silently."""
    return source if source in NOT_HUMAN else "human"


def _each_once(votes: pd.DataFrame) -> np.ndarray:
    """Where the votes are, one row for each id.

    Raises:
        PrefkitError: a vote id has two different answers.
    """
    again = votes["vote_id"].duplicated().to_numpy()
    if not again.any():
        return np.arange(len(votes))
    several = votes[votes["vote_id"].duplicated(keep=False)]
    different = several.drop_duplicates(["vote_id", "choice", *ANSWER])
    contradicting = sorted(different.loc[different["vote_id"].duplicated(), "vote_id"])
    if contradicting:
        raise PrefkitError(
            f"vote {contradicting[0]} is there twice with different answers; "
            "a vote id stands for one answer, so export the votes again"
        )
    return np.flatnonzero(~again)


def _latest(votes: pd.DataFrame, rows: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Whether no later row has the same answer code, [rows]. Only rows with rivals are put in order."""
    rivals = np.flatnonzero(pd.Series(answer).duplicated(keep=False))
    latest = np.ones(len(rows), dtype=bool)
    if len(rivals):
        told = pd.DataFrame(
            {
                "created_at": votes["created_at"].iloc[rows[rivals]].to_numpy(),
                "vote_id": votes["vote_id"].iloc[rows[rivals]].to_numpy(),
                "answer": answer[rivals],
            },
            index=rivals,
        ).sort_values(["created_at", "vote_id"], kind="stable")
        latest[told.index[told["answer"].duplicated(keep="last")]] = False
    return latest
