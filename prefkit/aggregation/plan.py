"""How many votes a wanted confidence takes, and how far the votes so far reach.

An annotator picks the better of two clips with probability p, independently of others. Asking until one clip
leads by m decided votes is then Wald's sequential test: the leader is the better one with probability
p^m / (p^m + (1 − p)^m), whatever the number of votes (Wald, Sequential Analysis, 1947; the walk of the lead
is the gambler's ruin: Feller, An Introduction to Probability Theory I, chapter XIV).
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError

# Fewer decided votes on questions with several of them say little about how often people are right.
ENOUGH_VOTES = 30
# Annotators who are right less often than that would take thousands of votes.
CHANCE = 0.51
# A fixed number of votes is not looked for beyond this.
MOST_VOTES = 999
COLUMNS = (
    "criterion", "comparisons", "votes", "accuracy", "measured", "margin", "votes_each", "fixed_votes_each",
    "reached", "reached_share", "votes_needed", "reason",
)  # fmt: skip


def plan_votes(
    questions: pd.DataFrame,
    num_comparisons: int,
    criteria: Sequence[str],
    *,
    confidence: float = 0.95,
    accuracy: float = 0.8,
) -> pd.DataFrame:
    """Says per criterion how many votes it takes to know the better clip with `confidence`.

    Args:
        questions: rows of `prefkit.aggregation.aggregate_votes`.
        num_comparisons: how many comparisons are asked, voted on or not.
        criteria: that are asked about; where there are votes, those that have some are planned.
        confidence: wanted probability that the decided side is right, in (0.5, 1).
        accuracy: how often an annotator picks the better clip, in (0.5, 1); used where votes do not say.

    Returns:
        One row per criterion:

        - comparisons, votes (answers so far)
        - accuracy: how often an annotator picks the better clip; measured: whether the votes tell
          (`measured_accuracy`), or it is the argument
        - margin: the lead in decided votes at which to stop
        - votes_each: expected answers to a comparison if each stops there; fixed_votes_each: the number if
          all get the same and the majority decides (ties take more: both count them in)
        - reached: comparisons that are at the margin; reached_share
        - votes_needed: answers still to be expected until all are
        - reason: why the numbers after accuracy are null: annotators agree no more than chance

    Raises:
        PrefkitError: confidence or accuracy out of range.
    """
    for name, value in (("confidence", confidence), ("accuracy", accuracy)):
        if not 0.5 < value < 1:
            raise PrefkitError(f"the {name} is {value}, expected a number between 0.5 and 1")
    wanted = criteria if questions.empty else sorted(set(questions["criterion"]))
    rows = [
        _plan(name, questions[questions["criterion"] == name], num_comparisons, confidence, accuracy) for name in wanted
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measured_accuracy(num_a: np.ndarray, num_b: np.ndarray) -> float | None:
    """How often an annotator picks the better clip, by the votes alone.

    The most probable p where either clip of a question may be the better one: L = Π ½ (p^a q^b + p^b q^a),
    by expectation maximisation (Dawid & Skene, 1979, with one rate for all). Unlike the share of agreeing
    votes it does not depend on when a question was stopped.

    Args:
        num_a: int [Q], votes for a of each question.
        num_b: int [Q], votes for b.

    Returns:
        p in [0.5, 1], or None where fewer than `ENOUGH_VOTES` votes share a question with others.
    """
    shared = num_a + num_b >= 2
    counts, number = np.unique(np.stack([num_a[shared], num_b[shared]], axis=1), axis=0, return_counts=True)
    total = float((counts.sum(axis=1) * number).sum())
    if total < ENOUGH_VOTES:
        return None
    lead = counts[:, 0] - counts[:, 1]
    accuracy = 0.8
    for _ in range(1000):
        a_better = 1 / (1 + ((1 - accuracy) / accuracy) ** lead)
        right = a_better * counts[:, 0] + (1 - a_better) * counts[:, 1]
        before, accuracy = accuracy, min(float((right * number).sum()) / total, 1 - 1e-6)
        if abs(accuracy - before) < 1e-9:
            break
    return max(accuracy, 0.5)


def needed_margin(accuracy: float, confidence: float) -> int:
    """The smallest lead m with p^m / (p^m + (1 − p)^m) ≥ confidence, for p = `accuracy` in (0.5, 1)."""
    odds = math.log(confidence / (1 - confidence)) / math.log(accuracy / (1 - accuracy))
    return max(1, math.ceil(odds - 1e-9))


def needed_votes(accuracy: float, confidence: float) -> int | None:
    """The smallest odd n whose majority is right with `confidence`; None beyond `MOST_VOTES`."""
    right, number = accuracy, 1
    while right < confidence:
        # two more votes turn a majority of one, either way, if both are against it
        half = (number + 1) // 2
        paths = math.lgamma(number + 1) - math.lgamma(half + 1) - math.lgamma(number - half + 1)
        right += (2 * accuracy - 1) * math.exp(paths + half * math.log(accuracy * (1 - accuracy)))
        number += 2
        if number > MOST_VOTES:
            return None
    return number


def votes_to_come(lead: np.ndarray, margin: int, accuracy: float) -> np.ndarray:
    """Expected decided votes until the lead is `margin`, from |lead| now; 0 where it is there.

    Whether the leading clip is the better one is as probable as the lead says.
    """
    lead = np.minimum(np.abs(lead), margin)
    ratio = (1 - accuracy) / accuracy
    leader_right = 1 / (1 + ratio**lead)

    def duration(start: np.ndarray) -> np.ndarray:
        """From `start` in [−margin, margin], where up is right."""
        up = (1 - ratio ** (start + margin)) / (1 - ratio ** (2 * margin))
        return (2 * margin * up - (start + margin)) / (2 * accuracy - 1)

    return np.maximum(leader_right * duration(lead) + (1 - leader_right) * duration(-lead), 0.0)


def _plan(
    criterion: str, questions: pd.DataFrame, num_comparisons: int, confidence: float, assumed: float
) -> dict[str, object]:
    num_a, num_b = questions["num_a"].to_numpy(), questions["num_b"].to_numpy()
    votes = int(questions["num_votes"].sum())
    measured = measured_accuracy(num_a, num_b)
    accuracy = assumed if measured is None else measured
    row = {
        "criterion": criterion,
        "comparisons": num_comparisons,
        "votes": votes,
        "accuracy": accuracy,
        "measured": measured is not None,
    }
    if accuracy < CHANCE:
        return row | {"reason": "annotators agree no more than chance"}
    margin = needed_margin(accuracy, confidence)
    decided = int((num_a + num_b).sum())
    per_decided = votes / decided if decided else 1.0
    lead = np.zeros(num_comparisons, dtype=np.int64)
    lead[: len(num_a)] = num_a - num_b
    fixed = needed_votes(accuracy, confidence)
    reached = int((np.abs(lead) >= margin).sum())
    return row | {
        "margin": margin,
        "votes_each": float(votes_to_come(np.zeros(1), margin, accuracy)[0]) * per_decided,
        "fixed_votes_each": None if fixed is None else math.ceil(fixed * per_decided - 1e-9),
        "reached": reached,
        "reached_share": reached / num_comparisons if num_comparisons else None,
        "votes_needed": math.ceil(float(votes_to_come(lead, margin, accuracy).sum()) * per_decided),
    }
