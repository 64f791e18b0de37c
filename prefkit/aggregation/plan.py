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
from scipy import stats

from prefkit.errors import PrefkitError

# Fewer pairs of decided votes on the same question say little about how often people agree.
ENOUGH_PAIRS = 30
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
        - accuracy: from how often two annotators agree on a question; measured: whether it is, or `accuracy`
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
    """How often an annotator is right, if two agree as often as the votes do: agreement = p² + (1 − p)².

    Args:
        num_a: int [Q], votes for a of each question.
        num_b: int [Q], votes for b.

    Returns:
        p in [0.5, 1], or None where fewer than `ENOUGH_PAIRS` pairs of votes share a question.
    """
    num = num_a + num_b
    pairs = int((num * (num - 1)).sum())
    if pairs < 2 * ENOUGH_PAIRS:
        return None
    agreement = float((num_a * (num_a - 1) + num_b * (num_b - 1)).sum()) / pairs
    return 0.5 + 0.5 * math.sqrt(max(2 * agreement - 1, 0.0))


def needed_margin(accuracy: float, confidence: float) -> int:
    """The smallest lead m with p^m / (p^m + (1 − p)^m) ≥ confidence, for p = `accuracy` in (0.5, 1)."""
    odds = math.log(confidence / (1 - confidence)) / math.log(accuracy / (1 - accuracy))
    return max(1, math.ceil(odds - 1e-9))


def needed_votes(accuracy: float, confidence: float) -> int | None:
    """The smallest odd n whose majority is right with `confidence`; None beyond `MOST_VOTES`."""
    numbers = np.arange(1, MOST_VOTES + 1, 2)
    enough = stats.binom.sf(numbers // 2, numbers, accuracy) >= confidence
    return int(numbers[np.argmax(enough)]) if enough.any() else None


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
    accuracy = assumed if measured is None else min(measured, 1 - 1e-6)
    row = {
        "criterion": criterion,
        "comparisons": num_comparisons,
        "votes": votes,
        "accuracy": accuracy,
        "measured": measured is not None,
    }
    if accuracy <= 0.5 + 1e-6:
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
