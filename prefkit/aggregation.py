"""Votes -> one row per comparison and criterion: counts, probability, agreement, verdict.

Pure: tables in, tables out. Counting goes through `numpy.bincount`, so a million votes take a moment.
"""

from typing import Any

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError
from prefkit.tables import CHOICES

# What makes two rows the same answer to the same question.
ANSWER = ["comparison_id", "annotator", "criterion", "repeat"]
NOT_HUMAN = ("simulated", "model")


def aggregate_votes(votes: pd.DataFrame) -> pd.DataFrame:
    """Counts the votes that stand (`standing_votes`) per comparison and criterion.

    Args:
        votes: rows of `prefkit.tables.VOTES`, in any order.

    Returns:
        One row per comparison and criterion, sorted by both:

        - num_a, num_b, num_tie, num_both_bad, num_skip
        - num_votes: the answers, so all but skips
        - probability: P(a better) = (a + tie / 2) / (a + b + tie); null where nobody compared
        - tie_probability: tie / (a + b + tie)
        - agreement: max(a, b) / (a + b), the share of decided votes on the majority's side
        - verdict: both_bad where at least half of the answers say so; else tie where a and b are level or
          ties outnumber either; else a or b; null where everybody skipped
        - source: where the votes come from, joined by "+" if from several

    Raises:
        PrefkitError: a choice that is none of `CHOICES`, or one vote id with two different answers.
    """
    votes, _ = standing_votes(votes)
    keys = votes[["comparison_id", "criterion"]]
    grouped = keys.groupby(["comparison_id", "criterion"], sort=True)
    group = grouped.ngroup().to_numpy()
    questions = keys.drop_duplicates().sort_values(["comparison_id", "criterion"]).reset_index(drop=True)
    choice = pd.Categorical(votes["choice"], categories=list(CHOICES)).codes.astype(np.int64)
    cells = np.bincount(group * len(CHOICES) + choice, minlength=len(questions) * len(CHOICES))
    a, b, tie, both_bad, skip = cells.reshape(-1, len(CHOICES)).T
    compared, decided = a + b + tie, a + b
    return questions.assign(
        num_a=a,
        num_b=b,
        num_tie=tie,
        num_both_bad=both_bad,
        num_skip=skip,
        num_votes=compared + both_bad,
        probability=_ratio(a + tie / 2, compared),
        tie_probability=_ratio(tie, compared),
        agreement=_ratio(np.maximum(a, b), decided),
        verdict=_verdict(a, b, tie, both_bad),
        source=_sources(votes["source"], group, len(questions)),
    )


def standing_votes(votes: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The votes that count, and how many do not, by reason.

    Left out are copies of a vote that was sent twice, votes that another row supersedes, undos, repeats
    asked for self-consistency (they are no second opinion), and all but an annotator's latest answer to a
    question.

    Raises:
        PrefkitError: a choice that is none of `CHOICES`, or one vote id with two different answers.
    """
    unknown = sorted(set(votes["choice"].dropna()) - set(CHOICES))
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


def krippendorff_alpha(questions: pd.DataFrame) -> float | None:
    """Agreement beyond chance on one criterion's a, b, tie, both bad: 1 is perfect, 0 is chance.

    Nominal alpha (Krippendorff, Content Analysis, 2004) over questions with at least two answers.

    Args:
        questions: rows of one criterion from `aggregate_votes`.

    Returns:
        Alpha, or None where no question has two answers or all answers are the same.
    """
    import krippendorff

    counts = questions[["num_a", "num_b", "num_tie", "num_both_bad"]].to_numpy()
    counts = counts[counts.sum(axis=1) >= 2]
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def source_kind(source: Any) -> str:
    """Returns simulated, model or human: what must not mix silently."""
    return source if source in NOT_HUMAN else "human"


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _verdict(a: np.ndarray, b: np.ndarray, tie: np.ndarray, both_bad: np.ndarray) -> np.ndarray:
    answers = a + b + tie + both_bad
    rules = [answers == 0, 2 * both_bad >= answers, (a == b) | (tie > np.maximum(a, b)), a > b]
    outcomes = np.array([None, "both_bad", "tie", "a", "b"], dtype=object)
    return outcomes[np.select(rules, range(4), 4)]


def _sources(source: pd.Series, group: np.ndarray, num_groups: int) -> np.ndarray:
    names = source.fillna("unknown").to_numpy()
    seen = pd.DataFrame({"group": group, "source": names}).drop_duplicates().sort_values(["group", "source"])
    joined = np.full(num_groups, "", dtype=object)
    for index, name in zip(seen["group"], seen["source"], strict=True):
        joined[index] = f"{joined[index]}+{name}" if joined[index] else name
    return joined
