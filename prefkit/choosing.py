"""Orders in which questions may be asked. Pure: pairs and scores in, pairs out."""

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError, nearest_names
from prefkit.metrics.catalogue import known_metrics
from prefkit.tables import content_id

Pair = tuple[str, str]


def shuffled(pairs: list[Pair], condition_id: str, seed: int) -> list[Pair]:
    """A random order that depends on nothing but the arguments."""
    rng = np.random.default_rng(int(content_id("comparisons", seed, condition_id), 16))
    return [pairs[index] for index in rng.permutation(len(pairs))]


def score_table(candidates: pd.DataFrame, scores: pd.DataFrame, metric: str | None, strategy: str) -> pd.DataFrame:
    """Scores in units of their standard deviation around 0, turned so that higher is better, [candidate, metric].

    Args:
        candidates: whose.
        scores: rows of `prefkit.tables.SCORES`.
        metric: only this one; None for all.
        strategy: who asks, for the message.

    Raises:
        PrefkitError: there is no score at all, or none of that metric.
    """
    scores = scores[scores["value"].notna() & scores["candidate_id"].isin(candidates["candidate_id"])]
    if scores.empty:
        raise PrefkitError(f"{strategy} needs scores and there are none; run 'prefkit score' first, or choose random")
    if metric is not None and metric not in set(scores["metric"]):
        raise PrefkitError(f"no candidate has a score of {metric!r}{nearest_names(metric, set(scores['metric']))}")
    if metric is not None:
        scores = scores[scores["metric"] == metric]
    table = scores.pivot_table(index="candidate_id", columns="metric", values="value", aggfunc="last")
    spread = table.std(ddof=0)
    table = (table - table.mean()) / spread.where(spread > 0, 1.0)
    directions = _directions()
    lower_is_better = [name for name in table.columns if directions.get(name) == "lower"]
    table[lower_is_better] *= -1
    return table


def with_direction(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of metrics that say which way is better."""
    directions = _directions()
    return table[[name for name in table.columns if directions.get(name) in ("higher", "lower")]]


def closest_first(pairs: list[Pair], table: pd.DataFrame) -> list[Pair]:
    """By the mean absolute difference over the metrics that scored both clips; unscored pairs last."""
    differences = np.abs(_differences(pairs, table))
    return _sorted(pairs, _mean(differences))


def disputed_first(pairs: list[Pair], table: pd.DataFrame) -> list[Pair]:
    """By how far metrics prefer different clips: Σ|d| − |Σ d| over their differences d, largest first.

    That is twice what the outvoted metrics amount to: 0 where all prefer the same clip. Pairs without two
    scores come last.

    Raises:
        PrefkitError: fewer than two metrics say which way is better.
    """
    table = with_direction(table)
    if table.shape[1] < 2:
        raise PrefkitError(
            f"metric-disagreement needs scores of two metrics that say which way is better, found {table.shape[1]}; "
            "run 'prefkit score' with more metrics, or choose metric-close"
        )
    differences = _differences(pairs, table)
    dispute = np.nansum(np.abs(differences), axis=1) - np.abs(np.nansum(differences, axis=1))
    dispute = np.where((~np.isnan(differences)).sum(axis=1) >= 2, dispute, np.nan)
    return _sorted(pairs, -np.round(dispute, 12))


def _directions() -> dict[str, str]:
    return {name: metric.direction for name, metric in known_metrics().items()}


def _differences(pairs: list[Pair], table: pd.DataFrame) -> np.ndarray:
    first = table.reindex([a for a, _ in pairs]).to_numpy()
    second = table.reindex([b for _, b in pairs]).to_numpy()
    return first - second


def _mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    total = np.nansum(values, axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(len(values), np.nan), where=known.any(axis=1))


def _sorted(pairs: list[Pair], keys: np.ndarray) -> list[Pair]:
    order = np.argsort(keys, kind="stable")  # NaN comes last
    return [pairs[index] for index in order]
