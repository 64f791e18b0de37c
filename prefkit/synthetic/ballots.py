"""Votes drawn from known strengths, biases and reliabilities, to see what aggregation makes of them."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from prefkit.aggregation.davidson import expect_answer
from prefkit.tables import COMPARISONS, VOTES

SOURCE = "simulated"


@dataclass(frozen=True)
class Ballots:
    """Votes and what they were drawn from.

    Attributes:
        votes: rows of `prefkit.tables.VOTES` on the criterion overall, source simulated.
        comparisons: rows of `prefkit.tables.COMPARISONS`, purpose train: all pairs of each condition.
        strengths: candidate_id -> strength in log odds.
        reliabilities: annotator -> reliability.
    """

    votes: pd.DataFrame
    comparisons: pd.DataFrame
    strengths: pd.Series
    reliabilities: pd.Series


def draw_ballots(
    *,
    conditions: int,
    clips: int,
    num_votes: int,
    annotators: int = 50,
    careless: float = 0.0,
    spread: float = 1.0,
    reliability_spread: float = 0.2,
    taste: float = 0.0,
    left_bias: float = 0.0,
    tie: float = 0.5,
    seed: int = 0,
) -> Ballots:
    """Draws votes from Davidson's model (`prefkit.aggregation.bradley_terry`).

    Votes are spread over all pairs within conditions as evenly as can be; nobody answers a question twice.

    Args:
        conditions: how many.
        clips: of each condition, ≥ 2.
        num_votes: in all; at most annotators · questions.
        annotators: how many.
        careless: share of the annotators, rounded down, who answer without looking: reliability 0.
        spread: standard deviation of the strengths, in log odds.
        reliability_spread: standard deviation of the others' log reliability, around 1.
        taste: standard deviation of each annotator's own opinion of each clip, in log odds.
        left_bias: log odds in favour of the left clip.
        tie: ν, ≥ 0; two equal clips are called a tie with ν / (2 + ν).
        seed: of everything.

    Raises:
        ValueError: more votes than annotators · questions.
    """
    rng = np.random.default_rng(seed)
    strengths = rng.normal(0, spread, conditions * clips)
    pairs = np.array(list(itertools.combinations(range(clips), 2)))
    first, second = (np.arange(conditions)[:, None, None] * clips + pairs).reshape(-1, 2).T
    if num_votes > annotators * len(first):
        raise ValueError(f"{annotators} annotators cannot give {num_votes} votes on {len(first)} questions")
    question = np.repeat(np.arange(len(first)), np.diff(np.arange(len(first) + 1) * num_votes // len(first)))
    annotator = _distinct(question, annotators, rng)
    reliabilities = rng.lognormal(0, reliability_spread, annotators)
    reliabilities[: int(careless * annotators)] = 0.0

    side = rng.choice([-1, 1], num_votes)
    difference = (strengths[first] - strengths[second])[question]
    if taste:
        own = rng.normal(0, taste, (annotators, len(strengths)))
        difference = difference + own[annotator, first[question]] - own[annotator, second[question]]
    answer = expect_answer(reliabilities[annotator] * difference + left_bias * side, tie)
    better = 0.5 * (1 - answer.tie) + answer.score
    drawn = rng.random(num_votes)
    choice = np.select([drawn < better, drawn < better + answer.tie], ["a", "tie"], "b")

    names = np.array([f"clip-{number:07d}" for number in range(len(strengths))])
    people = np.array([f"annotator-{number:04d}" for number in range(annotators)])
    ids = np.array([f"question-{number:07d}" for number in range(len(first))])
    start = pd.Timestamp("2025-01-01", tz="UTC")
    votes = pd.DataFrame(
        {
            "vote_id": [f"vote-{number:07d}" for number in range(num_votes)],
            "comparison_id": ids[question],
            "annotator": people[annotator],
            "criterion": "overall",
            "repeat": 0,
            "choice": choice,
            "left": np.where(side > 0, "a", "b"),
            "source": SOURCE,
            "created_at": start + pd.to_timedelta(np.arange(num_votes), unit="s"),
        }
    ).reindex(columns=VOTES.schema.names)
    comparisons = pd.DataFrame(
        {
            "comparison_id": ids,
            "condition_id": np.array([f"condition-{number:06d}" for number in range(conditions)])[first // clips],
            "candidate_a": names[first],
            "candidate_b": names[second],
            "purpose": "train",
            "reason": "random",
            "round": 0,
            "target_votes": np.bincount(question, minlength=len(first)),
        }
    ).reindex(columns=COMPARISONS.schema.names)
    return Ballots(votes, comparisons, pd.Series(strengths, names), pd.Series(reliabilities, people))


def _distinct(question: np.ndarray, annotators: int, rng: np.random.Generator) -> np.ndarray:
    """An annotator for each vote, at random, each at most once for a question (which is sorted)."""
    starts = np.searchsorted(question, np.arange(question[-1] + 1))
    rank = np.arange(len(question)) - starts[question]
    chosen = np.empty(len(question), dtype=np.int64)
    step = max(1, 4_000_000 // annotators)
    for start in range(0, len(starts), step):
        orders = rng.random((min(step, len(starts) - start), annotators)).argsort(axis=1)
        votes = slice(*np.searchsorted(question, [start, start + step]))
        chosen[votes] = orders[question[votes] - start, rank[votes]]
    return chosen
