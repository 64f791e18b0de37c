"""Votes -> what the model of `prefkit.aggregation.bradley_terry` says, as tables."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prefkit.aggregation.blocks import Blocks
from prefkit.aggregation.bootstrap import Spread, bootstrap_spread
from prefkit.aggregation.bradley_terry import Fit, fit_davidson
from prefkit.aggregation.coding import CodedVotes, Names, code_votes
from prefkit.aggregation.counts import COMPARED, Counts, count_ballots
from prefkit.aggregation.davidson import expect_answer, probability_better
from prefkit.aggregation.majority import joined_sources
from prefkit.aggregation.standing import source_kind, standing_rows
from prefkit.errors import PrefkitError
from prefkit.tables import CHOICES, STRENGTHS


@dataclass(frozen=True)
class Aggregation:
    """What the votes say.

    Attributes:
        questions: comparison_id, criterion, probability, tie_probability, low, high (see
            `prefkit.aggregation.aggregate_votes`); those that nobody compared are left out.
        strengths: rows of `prefkit.tables.STRENGTHS`: log odds against the mean of the condition's clips.
        annotators: annotator, criterion, reliability (1: typical, 0: answers without looking), num_votes
            (that compare).
        criteria: criterion, left_bias (log odds), left_share (how often the left of two equal clips wins,
            ties apart), tie_share (how often two equal clips are called a tie), num_votes, converged.
    """

    questions: pd.DataFrame
    strengths: pd.DataFrame
    annotators: pd.DataFrame
    criteria: pd.DataFrame


def fit_votes(
    votes: pd.DataFrame,
    comparisons: pd.DataFrame,
    *,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    prior: float = 1.0,
    allow_mixed_sources: bool = False,
) -> Aggregation:
    """Fits the model per criterion to the votes that stand and compare (a, tie, b).

    Args:
        votes: rows of `prefkit.tables.VOTES`, in any order.
        comparisons: rows of `prefkit.tables.COMPARISONS`; choose votes by purpose before.
        resamples: bootstrap draws of annotators for the intervals; 0 for none.
        confidence: of the two-sided intervals, in (0, 1).
        seed: of the draws.
        prior: precision of the normal prior of the strengths, > 0: the larger, the closer to even.
        allow_mixed_sources: fit simulated, model and human votes as one.

    Raises:
        PrefkitError: see `prefkit.aggregation.aggregate_votes`; an option out of range.
    """
    coded = code_votes(votes)
    rows, _ = standing_rows(votes, coded)
    return fit_standing(
        coded.take(rows), comparisons, resamples=resamples, confidence=confidence, seed=seed, prior=prior,
        allow_mixed_sources=allow_mixed_sources,
    )  # fmt: skip


def fit_standing(
    votes: CodedVotes,
    comparisons: pd.DataFrame,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    prior: float,
    allow_mixed_sources: bool,
) -> Aggregation:
    """As `fit_votes`, of votes that are known to stand."""
    _check(resamples, confidence, prior)
    if not allow_mixed_sources:
        refuse_mixed_sources(votes.source)
    tables: list[tuple[pd.DataFrame, ...]] = [_tables_of_nothing()]
    for criterion, counts in count_ballots(votes, comparisons).items():
        blocks = Blocks.of(counts.questions)
        fit = fit_davidson(counts, blocks, prior=prior)
        unknown = Spread(np.full(len(counts.questions.first), np.nan), np.full(len(fit.strengths), np.nan))
        spread = unknown
        if resamples:
            spread = bootstrap_spread(counts, fit, prior=prior, resamples=resamples, seed=seed, confidence=confidence)
        tables.append(
            (
                _question_table(criterion, counts, fit, spread),
                _strength_table(criterion, counts, fit, spread, votes),
                _annotator_table(criterion, counts, fit),
                _criterion_table(criterion, counts, fit),
            )
        )
    full = tables[1:] or tables
    return Aggregation(*(pd.concat(parts, ignore_index=True) for parts in zip(*full, strict=True)))


def refuse_mixed_sources(source: Names) -> None:
    """Simulated, model and human votes never mix unless asked.

    Raises:
        PrefkitError: the votes are from more than one kind of source.
    """
    kinds = sorted({source_kind(name) for name in source.names[np.unique(source.code)]})
    if len(kinds) > 1:
        raise PrefkitError(
            f"the votes are {' and '.join(kinds)} votes; these never mix unless asked, so choose those of one kind, "
            "or allow mixed sources"
        )


def _check(resamples: int, confidence: float, prior: float) -> None:
    if resamples < 0 or resamples == 1:
        raise PrefkitError(f"found {resamples} bootstrap resamples, expected 0 for no intervals, or at least 2")
    if not 0 < confidence < 1:
        raise PrefkitError(f"the confidence is {confidence}, expected a number between 0 and 1")
    if not prior > 0:
        raise PrefkitError(f"the prior's precision is {prior}, expected a number above 0")


def _question_table(criterion: str, counts: Counts, fit: Fit, spread: Spread) -> pd.DataFrame:
    advantage = fit.advantage(counts)
    probability = probability_better(advantage, fit.tie)
    table = pd.DataFrame(
        {
            "comparison_id": counts.questions.comparison_ids,
            "criterion": criterion,
            "probability": probability,
            "tie_probability": expect_answer(advantage, fit.tie).tie,
            "low": probability_better(advantage - spread.advantages, fit.tie),
            "high": probability_better(advantage + spread.advantages, fit.tie),
        }
    )
    return table.sort_values("comparison_id", ignore_index=True)


def _strength_table(criterion: str, counts: Counts, fit: Fit, spread: Spread, votes: CodedVotes) -> pd.DataFrame:
    questions = counts.questions
    mean = np.bincount(questions.condition, fit.strengths) / questions.size
    strength = fit.strengths - mean[questions.condition]
    clips = np.concatenate([questions.first[counts.question], questions.second[counts.question]])
    num_votes = np.bincount(clips, np.tile(counts.count, 2), minlength=len(strength))
    table = pd.DataFrame(
        {
            "candidate_id": questions.candidate_ids,
            "criterion": criterion,
            "strength": strength,
            "low": strength - spread.strengths,
            "high": strength + spread.strengths,
            "num_votes": num_votes.astype(np.int64),
            "source": _clip_sources(counts, criterion, votes),
        },
        columns=STRENGTHS.schema.names,
    )
    return table.sort_values("candidate_id", ignore_index=True)


def _clip_sources(counts: Counts, criterion: str, votes: CodedVotes) -> np.ndarray:
    questions = counts.questions
    used = votes.source.names[np.unique(votes.source.code)]
    if len(used) == 1:
        return np.full(len(questions.candidate_ids), used[0], dtype=object)
    of_criterion = votes.criterion.names[votes.criterion.code] == criterion
    counted = votes.take(np.flatnonzero(of_criterion & np.isin(votes.choice, [CHOICES.index(c) for c in COMPARED])))
    place = pd.Index(questions.comparison_ids).get_indexer(votes.comparison.names)[counted.comparison.code]
    clips = np.concatenate([questions.first[place], questions.second[place]])
    source = Names(np.tile(counted.source.code, 2), counted.source.names)
    return joined_sources(source, clips, len(questions.candidate_ids))


def _annotator_table(criterion: str, counts: Counts, fit: Fit) -> pd.DataFrame:
    num_votes = np.bincount(counts.annotator, counts.count, minlength=len(counts.annotators))
    return pd.DataFrame(
        {
            "annotator": counts.annotators,
            "criterion": criterion,
            "reliability": fit.reliabilities,
            "num_votes": num_votes.astype(np.int64),
        }
    )


def _criterion_table(criterion: str, counts: Counts, fit: Fit) -> pd.DataFrame:
    row = {
        "criterion": criterion,
        "left_bias": fit.left_bias,
        "left_share": float(1 / (1 + np.exp(-fit.left_bias))),
        "tie_share": fit.tie / (2 + fit.tie),
        "num_votes": int(counts.count.sum()),
        "converged": fit.converged,
    }
    return pd.DataFrame([row])


def _tables_of_nothing() -> tuple[pd.DataFrame, ...]:
    columns = (
        ["comparison_id", "criterion", "probability", "tie_probability", "low", "high"],
        STRENGTHS.schema.names,
        ["annotator", "criterion", "reliability", "num_votes"],
        ["criterion", "left_bias", "left_share", "tie_share", "num_votes", "converged"],
    )
    return tuple(pd.DataFrame({name: [] for name in names}) for names in columns)
