"""Base against tuned model on the same conditions with the same seeds: win rates and differences.

Pure: rows of scores in, rows of results out. A condition's clips share a portrait and a speech, so the
condition is the unit: each counts once, and intervals come from resampling conditions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError, nearest_names
from prefkit.statistics import Interval, mean_interval, non_inferiority, win_rate_interval

KEY = ["condition_id", "seed", "metric"]


def clip_scores(scores: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """Joins rows of `SCORES` to what identifies a clip's draw: condition_id, seed, metric, value.

    Of several versions of a metric the last row counts.
    """
    drawn = candidates[["candidate_id", "condition_id", "seed"]]
    joined = scores.drop_duplicates(["candidate_id", "metric"], keep="last").merge(drawn, on="candidate_id")
    return joined[[*KEY, "value"]]


def compare_models(
    base: pd.DataFrame,
    tuned: pd.DataFrame,
    directions: Mapping[str, str],
    *,
    margins: Mapping[str, float] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[dict[str, Any]]:
    """Compares two models metric by metric on clips with the same condition and seed.

    Args:
        base: condition_id, seed, metric, value (null where it could not be scored); see `clip_scores`.
        tuned: likewise, of the tuned model.
        directions: metric -> "higher", "lower" (is better) or "band" (neither); also says which metrics.
        margins: metric -> the loss > 0, in the metric's unit, that still counts as not inferior. For a
            band metric a loss is a fall: tuning must not freeze what should move.
        resamples: bootstrap draws.
        seed: of the draws.
        confidence: of the intervals (two-sided) and of the non-inferiority tests (one-sided).

    Returns:
        One dict per metric, in the order of `directions`:

        - metric, direction, num_conditions, num_pairs (clips compared), num_missing (clips without a
          partner, or without a value on either side)
        - base_mean, tuned_mean, difference (tuned − base), difference_low, difference_high
        - win_rate (share of clips on which the tuned model is better; ties ½), win_rate_low,
          win_rate_high; null for band metrics; wins, ties, losses (clips)
        - margin, bound, p_value, non_inferior where a margin is given, else null
        - reason: why numbers are null, else null

        Means and rates are taken within each condition first, so each condition weighs the same.

    Raises:
        PrefkitError: a margin for a metric that is not compared, or one that is not above 0.
    """
    margins = margins or {}
    for name, margin in margins.items():
        if name not in directions:
            raise PrefkitError(
                f"there is a margin for {name!r}, which is not compared{nearest_names(name, directions)}"
            )
        if not margin > 0:
            raise PrefkitError(f"the margin of {name!r} is {margin}; a non-inferiority margin must be above 0")
    options = {"resamples": resamples, "seed": seed, "confidence": confidence}
    met = base.merge(tuned, on=KEY, how="outer", suffixes=("_base", "_tuned"))
    rows = []
    for name, direction in directions.items():
        clips = met[met["metric"] == name]
        scored = clips.dropna(subset=["value_base", "value_tuned"])
        counts = {"num_pairs": len(scored), "num_missing": len(clips) - len(scored)}
        rows.append(
            {"metric": name, "direction": direction} | counts | _compare(scored, direction, margins.get(name), options)
        )
    return rows


def outcome(base: np.ndarray, tuned: np.ndarray, direction: str) -> np.ndarray:
    """1 where the tuned clip is better, 0 where the base's is, ½ for a tie; float [N]."""
    gain = tuned - base if direction == "higher" else base - tuned
    return (1 + np.sign(gain)) / 2


def win_rates(
    won: np.ndarray, conditions: pd.Series, *, resamples: int, seed: int, confidence: float
) -> dict[str, Any]:
    """The share of clips that the tuned model wins, each condition weighing the same.

    Args:
        won: float [N] in 0–1 from the tuned model's side, ½ for a tie.
        conditions: [N] condition ids.
        resamples: bootstrap draws.
        seed: of the draws.
        confidence: of the interval.

    Returns:
        What `compare_models` says of a metric, with null where values of a metric are meant.
    """
    rates = _per_condition(won, conditions)
    interval = win_rate_interval(rates, resamples=resamples, seed=seed, confidence=confidence)
    return _nothing(interval.reason) | {
        "num_conditions": len(rates),
        **_named("win_rate", interval),
        "wins": int((won > 0.5).sum()),
        "ties": int((won == 0.5).sum()),
        "losses": int((won < 0.5).sum()),
    }


def _compare(scored: pd.DataFrame, direction: str, margin: float | None, options: dict[str, Any]) -> dict[str, Any]:
    if scored.empty:
        return _nothing("no condition has a value of both models")
    base, tuned = scored["value_base"].to_numpy(float), scored["value_tuned"].to_numpy(float)
    conditions = scored["condition_id"]
    differences = _per_condition(tuned - base, conditions)
    difference = mean_interval(differences, **options)
    result = _nothing(difference.reason) | {
        "num_conditions": len(differences),
        "base_mean": float(_per_condition(base, conditions).mean()),
        "tuned_mean": float(_per_condition(tuned, conditions).mean()),
        **_named("difference", difference),
    }
    if direction != "band":
        rates = win_rates(outcome(base, tuned, direction), conditions, **options)
        result |= {name: value for name, value in rates.items() if name.startswith("win") or name in ("ties", "losses")}
    if margin is not None:
        gains = -differences if direction == "lower" else differences
        test = non_inferiority(gains, margin, **options)
        tested = {"bound": test.bound, "p_value": test.p_value, "non_inferior": test.non_inferior}
        result |= {"margin": margin, **tested, "reason": test.reason}
    return result


def _per_condition(values: np.ndarray, conditions: pd.Series) -> np.ndarray:
    return pd.Series(values).groupby(conditions.to_numpy(), sort=True).mean().to_numpy()


def _named(name: str, interval: Interval) -> dict[str, float | None]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _nothing(reason: str | None) -> dict[str, Any]:
    numbers = ("base_mean", "tuned_mean", "difference", "difference_low", "difference_high")
    rates = ("win_rate", "win_rate_low", "win_rate_high", "wins", "ties", "losses")
    test = ("margin", "bound", "p_value", "non_inferior")
    return {"num_conditions": 0} | dict.fromkeys((*numbers, *rates, *test)) | {"reason": reason}
