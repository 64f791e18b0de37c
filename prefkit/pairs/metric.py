"""Pairs from a metric's scores instead of votes. Nobody voted: rows say `source="model"` and criterion "metric:…"."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.errors import PrefkitError, nearest_names
from prefkit.metrics.catalogue import find_metrics
from prefkit.pairs import layout
from prefkit.pairs.dataset import finish
from prefkit.pairs.funnel import step
from prefkit.pairs.options import PairOptions
from prefkit.pairs.rows import PairMaker
from prefkit.tables import SCORES, VOTES
from prefkit.workspace import Workspace

# Ratios that say a clip shows or says nothing at all: no example of anything.
BROKEN_AT_ONE = ("freeze_ratio", "black_ratio", "silent_ratio")
QUESTIONS = ("comparison_id", "criterion", "num_votes", "tie_probability", "agreement")


def build_metric_pairs(
    workspace: Workspace,
    output: str | Path | None = None,
    *,
    metric: str,
    min_margin: float = 0.0,
    select: str = "best-worst",
    max_per_condition: int | None = None,
    max_per_identity: int | None = None,
    test_fraction: float = 0.2,
    dry_run: bool = False,
    pick_a_pic: bool = False,
) -> dict[str, Any]:
    """Builds a preference dataset from one metric: of two clips of a condition the better-scored one is chosen.

    `preference`, `tie_probability` and `agreement` are null (nobody voted), `num_votes` is 0, `margin` is
    the difference of the scores in the metric's unit.

    Args:
        workspace: read: conditions, candidates, scores, and the files.
        output: the dataset's folder; by default `pairs` in the workspace. A dataset there is replaced.
        metric: whose last scores count; one that has a better direction.
        min_margin: the difference in score a pair needs, ≥ 0; equal scores never make a pair.
        select: "best-worst" pair of each condition, or "all".
        max_per_condition: pairs a condition may have; those furthest apart stay.
        max_per_identity: likewise.
        test_fraction: as in `prefkit.pairs.options.PairOptions`.
        dry_run: count what would be built and write nothing.
        pick_a_pic: also write Pick-a-Pic's view.

    Returns:
        As `prefkit.pairs.build_pairs`; the steps of the funnel are clips and pairs.

    Raises:
        PrefkitError: an unknown metric or one without a better direction, no scores of it, no pair left, an
            option out of range, or `output` holds something that is no dataset of prefkit's.
    """
    (known,) = find_metrics([metric])
    if known.direction == "band":
        raise PrefkitError(
            f"{metric} has no better direction: both too little and too much are worse; take a metric of which "
            "'prefkit metrics' says higher or lower"
        )
    if not 0 <= min_margin < float("inf"):
        raise PrefkitError(f"min margin is a difference of scores, at least 0; got {min_margin}")
    options = PairOptions(
        select=select,  # type: ignore[arg-type]
        max_per_condition=max_per_condition,
        max_per_identity=max_per_identity,
        test_fraction=test_fraction,
    )
    options.check()
    folder = Path(output) if output is not None else workspace.path("pairs")
    layout.check_output(folder)
    scores = workspace.read(SCORES).drop_duplicates(["candidate_id", "metric"], keep="last")
    if metric not in set(scores["metric"]):
        raise PrefkitError(
            f"no clip has a score of {metric!r}{nearest_names(metric, set(scores['metric']) or {'none'})}; "
            f"run 'prefkit score --metric {metric}' first"
        )
    maker = PairMaker(workspace)
    values, clips_step = _usable(maker.candidates, scores, metric)
    rows, total = _rows(maker, values, f"metric:{metric}", known.direction == "higher", min_margin)
    return finish(
        workspace,
        folder,
        rows,
        [clips_step, step("pairs", total, maker.dropped)],
        options,
        record={
            "metric": metric,
            "direction": known.direction,
            "versions": ", ".join(sorted(set(scores.loc[scores["metric"] == metric, "metric_version"]))),
            "min_margin": min_margin,
            "select": select,
            "max_per_condition": max_per_condition,
            "max_per_identity": max_per_identity,
            "test_fraction": test_fraction,
        },
        sha256=maker.sha256(),
        asked_of=f"{len(values)} clips with a score",
        questions=pd.DataFrame(columns=list(QUESTIONS)),
        counted=VOTES.schema.empty_table().to_pandas(),
        published_votes=layout.VOTES_WITH_CLIPS.empty_table().to_pandas(),
        dry_run=dry_run,
        pick_a_pic_view=pick_a_pic,
    )


def _usable(
    candidates: Mapping[str, dict[str, Any]], scores: pd.DataFrame, metric: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Candidate -> score, of clips that exist, are scored, and show and say something."""
    own = scores[(scores["metric"] == metric) & scores["value"].notna()]
    values = dict(zip(own["candidate_id"], own["value"].astype(float), strict=True))
    broken = set(scores.loc[scores["metric"].isin(BROKEN_AT_ONE) & (scores["value"] >= 1), "candidate_id"])
    dropped = {"no clip": 0, "not scored": 0, "frozen, black or silent from end to end": 0}
    usable = {}
    for name in sorted(candidates):
        if candidates[name]["clip"] is None:
            dropped["no clip"] += 1
        elif name not in values:
            dropped["not scored"] += 1
        elif name in broken:
            dropped["frozen, black or silent from end to end"] += 1
        else:
            usable[name] = values[name]
    return usable, step("clips", len(candidates), dropped)


def _rows(
    maker: PairMaker, values: Mapping[str, float], criterion: str, higher: bool, min_margin: float
) -> tuple[list[dict[str, Any]], int]:
    by_condition: dict[str, list[str]] = {}
    for name in values:
        by_condition.setdefault(maker.candidates[name]["condition_id"], []).append(name)
    rows, total = [], 0
    for condition, names in sorted(by_condition.items()):
        for first, second in itertools.combinations(names, 2):
            total += 1
            chosen, rejected = sorted((first, second), key=lambda name: values[name], reverse=higher)
            margin = abs(values[chosen] - values[rejected])
            if margin == 0:
                maker.dropped["equal scores"] += 1
            elif margin < min_margin:
                maker.dropped[f"margin below {min_margin:g}"] += 1
            elif row := maker.pair(condition, chosen, rejected, criterion):
                rows.append(row | _NOT_VOTED | {"margin": margin})
    return rows, total


_NOT_VOTED = {
    "preference": None,
    "tie_probability": None,
    "num_votes": 0,
    "agreement": None,
    "source": "model",
    "frame_weights": None,
}
