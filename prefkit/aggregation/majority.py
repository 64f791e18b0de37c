"""Counts per comparison and criterion, and what the majority says."""

import numpy as np
import pandas as pd

from prefkit.tables import CHOICES

QUESTION = ["comparison_id", "criterion"]


def count_votes(standing: pd.DataFrame) -> pd.DataFrame:
    """One row per comparison and criterion, as `prefkit.aggregation.aggregate_votes` describes it.

    Args:
        standing: votes that count (`standing_votes`).
    """
    comparison, comparisons = pd.factorize(standing["comparison_id"], sort=True)
    criterion, criteria = pd.factorize(standing["criterion"], sort=True)
    question, group = np.unique(comparison * max(len(criteria), 1) + criterion, return_inverse=True)
    choice = pd.Categorical(standing["choice"], categories=list(CHOICES)).codes.astype(np.int64)
    cells = np.bincount(group * len(CHOICES) + choice, minlength=len(question) * len(CHOICES))
    a, b, tie, both_bad, skip = cells.reshape(-1, len(CHOICES)).T
    compared, decided = a + b + tie, a + b
    probability = _ratio(a + tie / 2, compared)
    return pd.DataFrame(
        {
            "comparison_id": comparisons[question // max(len(criteria), 1)],
            "criterion": criteria[question % max(len(criteria), 1)],
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
            "source": joined_sources(standing["source"], group, len(question)),
        }
    )


def joined_sources(source: pd.Series, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Where the votes of each group come from: names joined by "+"; "" for a group without votes."""
    code, names = pd.factorize(source.fillna("unknown"), sort=True)
    seen = np.unique(group * max(len(names), 1) + code)
    joined = np.full(num_groups, "", dtype=object)
    for index, name in zip(seen // max(len(names), 1), names[seen % max(len(names), 1)], strict=True):
        joined[index] = f"{joined[index]}+{name}" if joined[index] else name
    return joined


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _verdict(a: np.ndarray, b: np.ndarray, tie: np.ndarray, both_bad: np.ndarray) -> np.ndarray:
    answers = a + b + tie + both_bad
    rules = [answers == 0, 2 * both_bad >= answers, (a == b) | (tie > np.maximum(a, b)), a > b]
    outcomes = np.array([None, "both_bad", "tie", "a", "b"], dtype=object)
    return outcomes[np.select(rules, range(4), 4)]
