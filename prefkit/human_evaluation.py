"""People's votes on blind comparisons of base and tuned model -> a win rate per criterion.

Pure: rows in, rows out, in the shape of `prefkit.evaluation.compare_models`, so that reports show both alike.
"""

from collections.abc import Collection
from typing import Any

import pandas as pd

from prefkit.aggregation import standing_votes
from prefkit.evaluation import win_rates

# What an answer is worth to the clip it names; who finds both bad prefers neither.
POINTS = {"a": 1.0, "tie": 0.5, "both_bad": 0.5, "b": 0.0}


def human_win_rates(
    votes: pd.DataFrame,
    comparisons: pd.DataFrame,
    tuned: Collection[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[dict[str, Any]]:
    """How often people prefer the tuned model's clip, per criterion.

    Args:
        votes: rows of `prefkit.tables.VOTES`; those on other comparisons, and skips, are left out.
        comparisons: rows of `prefkit.tables.COMPARISONS`, each between a clip of the base and a tuned one.
        tuned: candidate ids of the tuned model.
        resamples: bootstrap draws.
        seed: of the draws.
        confidence: of the intervals.

    Returns:
        One dict per criterion, sorted, like those of `compare_models` (wins, ties and losses are
        comparisons by the mean of their votes; base_mean, tuned_mean and difference are null) and with
        num_votes, num_annotators, sources. A condition weighs the same however many votes it has.
    """
    standing, _ = standing_votes(votes)
    asked = comparisons.set_index("comparison_id")[["condition_id", "candidate_a"]]
    answers = standing[standing["choice"].isin(list(POINTS))].join(asked, on="comparison_id", how="inner")
    points = answers["choice"].map(POINTS).astype(float)
    answers = answers.assign(won=points.where(answers["candidate_a"].isin(list(tuned)), 1 - points))
    rows = []
    for criterion, of_criterion in answers.groupby("criterion", sort=True):
        clips = of_criterion.groupby(["comparison_id", "condition_id"], sort=True)["won"].mean().reset_index()
        rates = win_rates(
            clips["won"].to_numpy(), clips["condition_id"], resamples=resamples, seed=seed, confidence=confidence
        )
        rows.append(
            {
                "metric": criterion,
                "direction": "higher",
                "num_pairs": len(clips),
                "num_missing": len(comparisons) - len(clips),
                "num_votes": len(of_criterion),
                "num_annotators": int(of_criterion["annotator"].nunique()),
                "sources": sorted(of_criterion["source"].fillna("unknown").unique()),
            }
            | rates
        )
    return rows
