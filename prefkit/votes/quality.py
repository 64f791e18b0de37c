"""How good and how fast the answers are: what a lead looks at.

Pure: votes and verdicts in, tables out. Repeats count for self-consistency alone, skips for nothing but
the time they took.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from prefkit.tables import CHOICES

ANSWERS = tuple(choice for choice in CHOICES if choice != "skip")
LONGEST_PAUSE = 300.0  # seconds between two ballots that still count as work
_RESAMPLES = 500
PER_ANNOTATOR = (
    "annotator", "source", "ballots", "hours", "per_hour", "median_seconds", "too_fast", "skipped", "left_share",
    "agreement", "gold", "gold_questions", "consistency", "repeats",
)  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha of one criterion, its 95 % interval, and the questions with two answers behind it.

    All three numbers are None where there are no such questions or all answers are the same.
    """

    criterion: str
    alpha: float | None
    low: float | None
    high: float | None
    questions: int


def nominal_alpha(counts: np.ndarray) -> np.ndarray:
    """Krippendorff's alpha for nominal data, with any number of answers a question.

    1 − observed / expected disagreement (Krippendorff, Content Analysis, 2004, section 11.3).

    Args:
        counts: [..., questions, answers], how often each answer was given; questions with fewer than two
            answers carry no weight.

    Returns:
        [...]; NaN where all answers are the same.
    """
    counts = np.asarray(counts, np.float64)
    given = counts.sum(-1)
    counts = np.where(given[..., None] >= 2, counts, 0.0)
    given = counts.sum(-1)
    alike = (counts * (counts - 1)).sum(-1) / np.maximum(given - 1, 1)
    total = given.sum(-1)
    values = counts.sum(-2)
    observed = total - alike.sum(-1)
    expected = (total**2 - (values**2).sum(-1)) / np.maximum(total - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def agreements(votes: pd.DataFrame, *, seed: int = 0) -> list[Agreement]:
    """Alpha per criterion, with percentile intervals by resampling questions.

    Args:
        votes: live rows of `prefkit.tables.VOTES` as cast (`VoteStore.cast_votes`).
        seed: of the resampling.
    """
    answers = _answers(votes)
    found = []
    for criterion, group in answers.groupby("criterion", sort=True):
        counts = _counts(group)
        counts = counts[counts.sum(1) >= 2]
        alpha = float(nominal_alpha(counts)) if len(counts) else np.nan
        if np.isnan(alpha):
            found.append(Agreement(str(criterion), None, None, None, len(counts)))
            continue
        rng = np.random.default_rng(seed)
        draws = np.array(
            [nominal_alpha(counts[rng.integers(len(counts), size=len(counts))]) for _ in range(_RESAMPLES)]
        )
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        found.append(Agreement(str(criterion), alpha, float(low), float(high), len(counts)))
    return found


def per_annotator(
    votes: pd.DataFrame, gold: pd.DataFrame, *, clip_seconds: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """One row an annotator with `PER_ANNOTATOR`; null where there is nothing to measure.

    Args:
        votes: live rows of `prefkit.tables.VOTES` as cast, repeats included.
        gold: the right answers: comparison_id, criterion, choice.
        clip_seconds: comparison -> how long its clips are; a ballot in less time is too fast.
    """
    right = {(row["comparison_id"], row["criterion"]): row["choice"] for row in _rows(gold)}
    majority = _majorities(_answers(votes))
    rows = []
    for (annotator, source), mine in votes.groupby(["annotator", "source"], sort=True):
        ballots = mine.drop_duplicates(["comparison_id", "repeat"]).sort_values("created_at")
        decided = mine[mine["choice"].isin(["a", "b"])]
        hours = working_hours(ballots)
        asked = [(row["comparison_id"], row["criterion"], row["choice"]) for row in _rows(mine[mine["repeat"] == 0])]
        on_gold = [choice == right[one, criterion] for one, criterion, choice in asked if (one, criterion) in right]
        others = [(majority.get((one, criterion, str(annotator))), choice) for one, criterion, choice in asked]
        with_others = [choice == most for most, choice in others if most is not None]
        same = _consistency(mine)
        rows.append(
            {
                "annotator": annotator,
                "source": source,
                "ballots": len(ballots),
                "hours": hours,
                "per_hour": len(ballots) / hours if hours else None,
                "median_seconds": ballots["seconds"].astype("float64").median(),
                "too_fast": _too_fast(ballots, clip_seconds or {}),
                "skipped": float((mine["choice"] == "skip").mean()),
                "left_share": float((decided["choice"] == decided["left"]).mean()) if len(decided) else None,
                "agreement": float(np.mean(with_others)) if with_others else None,
                "gold": float(np.mean(on_gold)) if on_gold else None,
                "gold_questions": len(on_gold),
                "consistency": float(np.mean(same)) if same else None,
                "repeats": len(same),
            }
        )
    return pd.DataFrame(rows, columns=list(PER_ANNOTATOR))


def working_hours(ballots: pd.DataFrame) -> float:
    """Hours between an annotator's ballots, without pauses over five minutes, plus the time of the first after each.

    Args:
        ballots: `created_at` and `seconds` (the time the page measured), one row a ballot.
    """
    if ballots.empty:
        return 0.0
    times = pd.to_datetime(ballots["created_at"], utc=True).sort_values()
    gaps = times.diff().dt.total_seconds().to_numpy()
    measured = ballots.loc[times.index, "seconds"].astype("float64").fillna(0.0).clip(0, LONGEST_PAUSE).to_numpy()
    worked = np.where(np.isnan(gaps) | (gaps > LONGEST_PAUSE), measured, gaps)
    return float(worked.sum() / 3600)


def disagreements(votes: pd.DataFrame, settled: pd.DataFrame) -> pd.DataFrame:
    """Questions whose most frequent answer has no majority, or that somebody flagged, and that nobody has settled.

    Returns:
        comparison_id, criterion, num_votes, answers ("a 2, b 2"), flags; the most contested first.
    """
    done = set(zip(settled["comparison_id"], settled["criterion"], strict=True))
    rows = []
    for (comparison, criterion), group in _answers(votes).groupby(["comparison_id", "criterion"], sort=True):
        counts = group["choice"].value_counts()
        flags = sorted({flag for flag in group["flags"].dropna()})
        contested = len(group) >= 2 and counts.iloc[0] * 2 <= len(group)
        if (comparison, criterion) not in done and (contested or flags):
            answers = ", ".join(f"{choice} {counts[choice]}" for choice in ANSWERS if choice in counts)
            rows.append((comparison, criterion, len(group), answers, " ".join(flags)))
    found = pd.DataFrame(rows, columns=["comparison_id", "criterion", "num_votes", "answers", "flags"])
    return found.sort_values(
        ["num_votes", "comparison_id", "criterion"], ascending=[False, True, True], ignore_index=True
    )


def _answers(votes: pd.DataFrame) -> pd.DataFrame:
    return votes[(votes["repeat"] == 0) & votes["choice"].isin(ANSWERS)]


def _counts(answers: pd.DataFrame) -> np.ndarray:
    table = pd.crosstab(answers["comparison_id"], answers["choice"])
    return table.reindex(columns=list(ANSWERS), fill_value=0).to_numpy()


def _majorities(answers: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """(comparison, criterion, annotator) -> what most of the others said, where most of them agree."""
    asked: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in _rows(answers):
        asked[row["comparison_id"], row["criterion"]].append((row["annotator"], row["choice"]))
    found = {}
    for (comparison, criterion), said in asked.items():
        counts = Counter(choice for _, choice in said)
        for annotator, choice in said:
            others = counts - Counter([choice])
            most = max(others, key=lambda one: others[one], default=None)
            if most is not None and others[most] * 2 > others.total():
                found[comparison, criterion, annotator] = most
    return found


def _consistency(mine: pd.DataFrame) -> list[bool]:
    """For each repeated question whether the answer was the same."""
    rows = _rows(mine)
    first = {(row["comparison_id"], row["criterion"]): row["choice"] for row in rows if row["repeat"] == 0}
    again = [((row["comparison_id"], row["criterion"]), row["choice"]) for row in rows if row["repeat"] > 0]
    return [first[question] == choice for question, choice in again if question in first]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")  # type: ignore[return-value]


def _too_fast(ballots: pd.DataFrame, clip_seconds: Mapping[str, float]) -> float | None:
    measured = ballots[ballots["seconds"].notna() & ballots["comparison_id"].isin(clip_seconds)]
    if measured.empty:
        return None
    return float((measured["seconds"].astype(float) < measured["comparison_id"].map(clip_seconds)).mean())
