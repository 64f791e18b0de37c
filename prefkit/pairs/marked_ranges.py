"""Ranges that annotators marked in the clips -> weights per frame."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError

# A frame that everybody marked weighs this many times as much as one that nobody marked.
MARKED_WEIGHT = 4.0

Range = tuple[float, float]  # start and end in seconds


def ranges_by_comparison(votes: pd.DataFrame) -> dict[str, list[list[Range]]]:
    """Comparison -> per annotator the ranges they marked, on either clip and for any criterion.

    Annotators who marked nothing have an empty list; comparisons that nobody marked are not there.

    Args:
        votes: with the columns comparison_id, annotator and ranges (as in `prefkit.tables.VOTES`).

    Raises:
        PrefkitError: ranges that cannot be read.
    """
    found: dict[str, list[list[Range]]] = {}
    marked = set(votes.loc[votes["ranges"].notna(), "comparison_id"])
    for comparison, group in votes[votes["comparison_id"].isin(marked)].groupby("comparison_id", sort=True):
        people = [
            sorted({one for text in ranges.dropna() for one in parse_ranges(text)})
            for _, ranges in group.groupby("annotator", sort=True)["ranges"]
        ]
        if any(people):
            found[str(comparison)] = people
    return found


def parse_ranges(text: str) -> list[Range]:
    """Reads a vote's ranges: a JSON list of objects with `start` and `end` in seconds (and `clip`, a or b).

    Raises:
        PrefkitError: it is something else.
    """
    try:
        return [_range(item) for item in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        raise PrefkitError(
            f"a vote has the marked ranges {text!r}; expected a JSON list of "
            '{"clip": "a" or "b", "start": seconds, "end": seconds}'
        ) from None


def frame_weights(people: Sequence[Iterable[Range]], num_frames: int, fps: float) -> list[float] | None:
    """Weights of mean 1 for the frames of a pair: the more annotators marked a frame, the more it weighs.

    The weight before scaling is 1 + (MARKED_WEIGHT − 1) · share of annotators whose ranges hold the frame's time.

    Args:
        people: per annotator of the comparison the ranges they marked, in seconds.
        num_frames: of both clips.
        fps: of both clips, > 0.

    Returns:
        `num_frames` weights, or None where no range meets a frame.
    """
    times = (np.arange(num_frames) + 0.5) / fps  # the middle of what a frame shows
    share = np.zeros(num_frames)
    for ranges in people:
        held = np.zeros(num_frames, bool)
        for start, end in ranges:
            held |= (times >= start) & (times <= end)
        share += held / len(people)
    if not share.any():
        return None
    weights = 1 + (MARKED_WEIGHT - 1) * share
    return (weights / weights.mean()).tolist()


def _range(item: Any) -> Range:
    start, end = float(item["start"]), float(item["end"])
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end):
        raise ValueError(item)
    return start, end
