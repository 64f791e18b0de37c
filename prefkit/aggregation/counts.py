"""Votes -> sorted integer counts: all that the model looks at.

Everything is sorted by name, never by when it came, so that any order of votes gives the same arrays.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prefkit.aggregation.coding import CodedVotes, Names
from prefkit.errors import PrefkitError
from prefkit.tables import CHOICES

COMPARED = ("a", "tie", "b")
# What an outcome is worth to a in the exponent of Davidson's model: P(a) ∝ exp(advantage / 2).
SCORE = np.array([0.5, 0.0, -0.5])
_OUTCOME = np.array([*(COMPARED.index(choice) if choice in COMPARED else -1 for choice in CHOICES), -1])


@dataclass(frozen=True)
class Questions:
    """The comparisons that have votes, and their clips, as numbers.

    Conditions are sorted by how many clips they have, then by id; clips and comparisons by their condition,
    then by id. So clips of a condition, and conditions of a size, are neighbours.

    Attributes:
        comparison_ids: [Q].
        first, second: int [Q], the clips a and b as places in `candidate_ids`.
        candidate_ids: [N].
        condition: int [N], of each clip, a place in `condition_ids`.
        condition_ids: [C].
        size: int [C], clips of each condition.
    """

    comparison_ids: np.ndarray
    first: np.ndarray
    second: np.ndarray
    candidate_ids: np.ndarray
    condition: np.ndarray
    condition_ids: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class Counts:
    """How often which annotator gave which answer to which question; one criterion.

    Cells are sorted by question, annotator, side and outcome.

    Attributes:
        questions: what the numbers stand for.
        question: int [M], sorted; every question has a cell.
        annotator: int [M], a place in `annotators`.
        side: float [M], 1 where a was on the left, −1 where b was, 0 where nobody knows.
        outcome: int [M], a place in `COMPARED`.
        count: float [M].
        annotators: [K] names, sorted.
    """

    questions: Questions
    question: np.ndarray
    annotator: np.ndarray
    side: np.ndarray
    outcome: np.ndarray
    count: np.ndarray
    annotators: np.ndarray


def count_ballots(votes: CodedVotes, comparisons: pd.DataFrame) -> dict[str, Counts]:
    """Counts the votes that compare (a, tie, b) per criterion; criteria without any are left out.

    Args:
        votes: votes that count.
        comparisons: rows of `prefkit.tables.COMPARISONS`.

    Raises:
        PrefkitError: votes on comparisons that are not in `comparisons`, or a clip in two conditions.
    """
    outcome = _OUTCOME[votes.choice]
    comparison = votes.comparison.code
    known = comparisons.iloc[_rows_of(votes.comparison, comparisons)]
    counted = {}
    for number, name in enumerate(votes.criterion.names):
        chosen = np.flatnonzero((outcome >= 0) & (votes.criterion.code == number))
        if len(chosen):
            questions, place = number_questions(known, _present(comparison[chosen], len(known)))
            asked = votes.take(chosen)
            counted[str(name)] = _count(questions, place[asked.comparison.code], asked, outcome[chosen])
    return counted


def number_questions(comparisons: pd.DataFrame, present: np.ndarray) -> tuple[Questions, np.ndarray]:
    """Sorts and numbers comparisons and their clips.

    Args:
        comparisons: comparison_id (sorted), condition_id, candidate_a, candidate_b.
        present: bool [len(comparisons)], which of them to number.

    Returns:
        The questions, and where each row of `comparisons` went (−1 for those left out).
    """
    rows = comparisons[present]
    both = pd.concat([rows["candidate_a"], rows["candidate_b"]])
    clip, candidate_ids = pd.factorize(both, sort=True)
    condition, condition_ids = pd.factorize(rows["condition_id"], sort=True)
    clip_condition = np.zeros(len(candidate_ids), dtype=np.int64)
    clip_condition[clip] = np.tile(condition, 2)
    _refuse_two_conditions(clip, clip_condition, np.tile(condition, 2), candidate_ids)

    size = np.bincount(clip_condition, minlength=len(condition_ids))
    condition_order = np.lexsort((np.arange(len(condition_ids)), size))
    condition_place = _inverse(condition_order)
    clip_order = np.lexsort((np.arange(len(candidate_ids)), condition_place[clip_condition]))
    clip_place = _inverse(clip_order)
    question_order = np.lexsort((np.arange(len(rows)), condition_place[condition]))
    first, second = clip_place[clip].reshape(2, -1)
    place = np.full(len(comparisons), -1)
    place[np.flatnonzero(present)] = _inverse(question_order)
    questions = Questions(
        comparison_ids=rows["comparison_id"].to_numpy(dtype=object)[question_order],
        first=first[question_order],
        second=second[question_order],
        candidate_ids=np.asarray(candidate_ids, dtype=object)[clip_order],
        condition=condition_place[clip_condition][clip_order],
        condition_ids=np.asarray(condition_ids, dtype=object)[condition_order],
        size=size[condition_order],
    )
    return questions, place


def _count(questions: Questions, question: np.ndarray, votes: CodedVotes, outcome: np.ndarray) -> Counts:
    seen = _present(votes.annotator.code, len(votes.annotator.names))
    annotator = (np.cumsum(seen) - 1)[votes.annotator.code]
    shape = (len(questions.comparison_ids), int(seen.sum()), 3, len(COMPARED))
    cells = np.ravel_multi_index((question, annotator, votes.side + 1, outcome), shape)
    cell, count = np.unique(cells, return_counts=True)
    question, annotator, side, outcome = np.unravel_index(cell, shape)
    return Counts(
        questions=questions,
        question=question,
        annotator=annotator,
        side=side.astype(np.float64) - 1,
        outcome=outcome,
        count=count.astype(np.float64),
        annotators=votes.annotator.names[seen],
    )


def _rows_of(comparison: Names, comparisons: pd.DataFrame) -> np.ndarray:
    """Where the named comparisons are; those that no vote is on may be missing and are then −1."""
    last = np.flatnonzero(~comparisons["comparison_id"].duplicated(keep="last").to_numpy())
    found = pd.Index(comparisons["comparison_id"].iloc[last]).get_indexer(comparison.names)
    voted = _present(comparison.code, len(comparison.names))
    unknown = comparison.names[(found < 0) & voted]
    if len(unknown):
        raise PrefkitError(
            f"there are votes on {len(unknown)} unknown comparisons, the first is {unknown[0]}; "
            "give the table of comparisons they were made with, or leave these votes out"
        )
    return np.where(found < 0, -1, last[found] if len(last) else -1)


def _refuse_two_conditions(
    clip: np.ndarray, known: np.ndarray, condition: np.ndarray, candidate_ids: np.ndarray
) -> None:
    wrong = np.flatnonzero(known[clip] != condition)
    if len(wrong):
        name = candidate_ids[clip[wrong[0]]]
        raise PrefkitError(
            f"clip {name} is in comparisons of two conditions; a clip belongs to one, so make the comparisons again"
        )


def _present(code: np.ndarray, number: int) -> np.ndarray:
    present = np.zeros(number, dtype=bool)
    present[code] = True
    return present


def _inverse(order: np.ndarray) -> np.ndarray:
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place
