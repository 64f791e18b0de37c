"""Several criteria -> one preference per comparison."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from prefkit.pairs.funnel import Step, step

NAMES = {"weighted": "weighted", "all": "all"}  # what the column `criterion` says of a combined pair


def combine_criteria(
    questions: pd.DataFrame, criteria: Sequence[str], how: str, weights: Mapping[str, float] | None
) -> tuple[pd.DataFrame, Step]:
    """One row per comparison whose criteria all have an answer.

    - weighted: probability, tie probability and agreement are means by weight; the verdict is the side of
      the mean probability, tie at one half.
    - all: the criteria must all name the same clip; the row takes the values of the least sure of them.

    Args:
        questions: rows of `prefkit.aggregation.aggregate_votes` that were answered.
        criteria: the names that must be there.
        how: "weighted" or "all".
        weights: criterion -> weight; 1 where none is given.

    Returns:
        Rows as of `questions` with `criterion` "weighted" or "all" and `num_votes` the fewest of the
        criteria, and a step of the funnel (of comparisons).
    """
    groups = questions.groupby("comparison_id", sort=True)
    total, rows = groups.ngroups, []
    dropped = {"a criterion without an answer": 0, "criteria disagree": 0}
    for comparison, group in groups:
        if set(group["criterion"]) != set(criteria):
            dropped["a criterion without an answer"] += 1
            continue
        group = group.sort_values("criterion")
        if how == "all" and (group["verdict"].nunique() > 1 or group["verdict"].iloc[0] == "tie"):
            dropped["criteria disagree"] += 1
            continue
        row = _weighted(group, weights or {}) if how == "weighted" else _least_sure(group)
        sources = sorted({name for joined in group["source"] for name in joined.split("+")})
        rows.append(
            {
                "comparison_id": comparison,
                "criterion": NAMES[how],
                "num_votes": int(group["num_votes"].min()),
                "source": "+".join(sources),
                **row,
            }
        )
    columns = ["comparison_id", "criterion", "num_votes", "source", *VALUES, "verdict"]
    return pd.DataFrame(rows, columns=columns), step("comparisons", total, dropped)


VALUES = ("probability", "tie_probability", "agreement")


def _weighted(group: pd.DataFrame, weights: Mapping[str, float]) -> dict[str, object]:
    weight = group["criterion"].map(lambda name: weights.get(name, 1.0)).to_numpy(np.float64)
    row: dict[str, object] = {}
    for name in VALUES:
        value = group[name].to_numpy(np.float64)
        known = ~np.isnan(value)  # ties have no agreement
        row[name] = float(np.average(value[known], weights=weight[known])) if known.any() else np.nan
    probability = row["probability"]
    return row | {"verdict": "tie" if probability == 0.5 else "ab"[int(probability < 0.5)]}  # type: ignore[operator]


def _least_sure(group: pd.DataFrame) -> dict[str, object]:
    distance = (group["probability"] - 0.5).abs()
    row = group.iloc[int(distance.to_numpy().argmin())]
    return {
        "probability": float(row["probability"]),
        "tie_probability": float(group["tie_probability"].max()),
        "agreement": float(group["agreement"].min()),
        "verdict": row["verdict"],
    }
