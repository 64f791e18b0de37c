"""Means with bootstrap intervals where what varies is the cluster (a condition), not the single clip.

Pure and deterministic: the same values and seed give the same numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Resampled values held at once; bounds memory at 32 MB whatever the number of clusters.
CHUNK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; null bounds where they cannot be known, with the reason."""

    mean: float
    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True)
class NonInferiority:
    """A one-sided test that a mean difference is not below −margin.

    Attributes:
        margin: the loss that would still be acceptable, > 0.
        bound: one-sided lower confidence bound of the difference.
        p_value: the share of bootstrap means at or below −margin, with the bound's small-sample correction:
            it is below 1 − confidence where the bound is above −margin.
        non_inferior: bound > −margin.
    """

    margin: float
    bound: float | None
    p_value: float | None
    non_inferior: bool | None
    reason: str | None = None


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of `resamples` draws with replacement from float [N] values; float [resamples]."""
    rng = np.random.default_rng(seed)
    return np.concatenate([values[rows].mean(axis=1) for rows in _draws(rng, len(values), resamples)])


def mean_interval(values: np.ndarray, *, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95) -> Interval:
    """The mean of one value per cluster, with an expanded percentile bootstrap interval.

    The percentiles are moved outwards so that the interval is as wide as a t interval would be: plain
    percentiles are too narrow by sqrt((n − 1) / n) and by using the normal's tails (Hesterberg, What
    Teachers Should Know About the Bootstrap, 2015, section 5.3).

    Args:
        values: float [N], one per cluster, N ≥ 1.
        resamples: bootstrap draws.
        seed: of the draws.
        confidence: of the two-sided interval, in (0, 1).
    """
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None, "an interval needs at least two conditions")
    tail = expanded_tail((1 - confidence) / 2, len(values))
    low, high = np.quantile(bootstrap_means(values, resamples, seed), [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def win_rate_interval(
    wins: np.ndarray, *, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """As `mean_interval` for win rates in [0, 1] per cluster.

    Where every cluster is won (or lost), resampling sees no variation; the exact binomial bound
    (Clopper & Pearson 1934) on the number of clusters then takes the place of the interval's open end.
    """
    interval = mean_interval(wins, resamples=resamples, seed=seed, confidence=confidence)
    if len(wins) < 2 or interval.mean not in (0.0, 1.0):
        return interval
    open_end = ((1 - confidence) / 2) ** (1 / len(wins))
    return Interval(interval.mean, open_end, 1.0) if interval.mean else Interval(interval.mean, 0.0, 1 - open_end)


def non_inferiority(
    differences: np.ndarray, margin: float, *, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> NonInferiority:
    """Tests whether the mean of float [N] differences (one per cluster, higher is better) is above −margin."""
    if len(differences) < 2:
        return NonInferiority(margin, None, None, None, "a test needs at least two conditions")
    means = bootstrap_means(differences, resamples, seed)
    bound = float(np.quantile(means, expanded_tail(1 - confidence, len(differences))))
    p_value = contracted_tail((1 + int((means <= -margin).sum())) / (resamples + 1), len(differences))
    return NonInferiority(margin, bound, p_value, bound > -margin)


def expanded_tail(tail: float, num_clusters: int) -> float:
    """The share of bootstrap means to cut off for one tail of `num_clusters` ≥ 2 clusters."""
    width = math.sqrt(num_clusters / (num_clusters - 1)) * stats.t.ppf(tail, num_clusters - 1)
    return float(stats.norm.cdf(width))


def contracted_tail(share: float, num_clusters: int) -> float:
    """The tail probability whose `expanded_tail` is `share`."""
    width = stats.norm.ppf(share) / math.sqrt(num_clusters / (num_clusters - 1))
    return float(stats.t.cdf(width, num_clusters - 1))


def _draws(rng: np.random.Generator, num_values: int, resamples: int) -> Iterator[np.ndarray]:
    step = max(1, CHUNK // num_values)
    for start in range(0, resamples, step):
        yield rng.integers(0, num_values, (min(step, resamples - start), num_values))
