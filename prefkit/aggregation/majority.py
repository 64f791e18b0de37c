"""Counts per comparison and criterion, and what the majority says."""

import numpy as np
import pandas as pd

from prefkit.aggregation.coding import CodedVotes, Names
from prefkit.tables import CHOICES

QUESTION = ["comparison_id", "criterion"]


def count_votes(votes: CodedVotes) -> pd.DataFrame:
    """One row per comparison and criterion, as `prefkit.aggregation.aggregate_votes` describes it.

    Args:
        votes: votes that count.
    """
    comparison, criterion = votes.comparison, votes.criterion
    num_criteria = max(len(criterion.names), 1)
    question, group = np.unique(comparison.code * num_criteria + criterion.code, return_inverse=True)
    cells = np.bincount(group * len(CHOICES) + votes.choice, minlength=len(question) * len(CHOICES))
    a, b, tie, both_bad, skip = cells.reshape(-1, len(CHOICES)).T
    compared, decided = a + b + tie, a + b
    probability = _ratio(a + tie / 2, compared)
    return pd.DataFrame(
        {
            "comparison_id": comparison.names[question // num_criteria],
            "criterion": criterion.names[question % num_criteria],
            "num_a": a,
            "num_b": b,
            "num_tie": tie,
            "num_both_bad": both_bad,
            "num_skip": skip,
            "num_votes": compared + both_bad,
            "probability": probability,
            "tie_probability": _ratio(tie, compared),
            "margin": np.abs(2 * probability - 1),
            "low": np.full(len(question), np.nan),
            "high": np.full(len(question), np.nan),
            "agreement": _ratio(np.maximum(a, b), decided),
            "verdict": _verdict(a, b, tie, both_bad),
            "source": joined_sources(votes.source, group, len(question)),
        }
    )


def joined_sources(source: Names, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Where the votes of each group come from: names joined by "+"; "" for a group without votes."""
    number = max(len(source.names), 1)
    seen = np.unique(group * number + source.code)
    joined = np.full(num_groups, "", dtype=object)
    for index, name in zip(seen // number, source.names[seen % number], strict=True):
        joined[index] = f"{joined[index]}+{name}" if joined[index] else name
    return joined


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _verdict(a: np.ndarray, b: np.ndarray, tie: np.ndarray, both_bad: np.ndarray) -> np.ndarray:
    answers = a + b + tie + both_bad
    rules = [answers == 0, 2 * both_bad >= answers, (a == b) | (tie > np.maximum(a, b)), a > b]
    outcomes = np.array([None, "both_bad", "tie", "a", "b"], dtype=object)
    return outcomes[np.select(rules, range(4), 4)]
