"""What is believed about the clips of a condition, and which question would tell most.

A belief is the normal approximation of the model's posterior (`prefkit.aggregation.bradley_terry`). One more
answer about clips a and b, whose advantage has variance v, is worth ½ log(1 + v · I) nats, I being the Fisher
information of an answer, averaged over the belief: D-optimal design for paired comparisons (Graßhoff &
Schwabe 2008; Chaloner & Verdinelli, Bayesian Experimental Design: A Review, 1995).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prefkit.aggregation.blocks import Blocks
from prefkit.aggregation.bradley_terry import Fit, fit_davidson
from prefkit.aggregation.counts import SCORE, Counts
from prefkit.aggregation.davidson import expect_answer, information

Pair = tuple[str, str]
# Before any vote: what a standard deviation in scores is worth in log odds, and how easily ties are called
# (two equal clips: one answer in five).
SCORE_SLOPE = 0.5
TIE = 0.5
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Belief:
    """Strengths of one condition's clips.

    Attributes:
        candidate_ids: [n].
        mean: float [n], log odds.
        covariance: float [n, n].
        tie: ν of `prefkit.aggregation.davidson`.
    """

    candidate_ids: Sequence[str]
    mean: np.ndarray
    covariance: np.ndarray
    tie: float = TIE


@dataclass(frozen=True)
class Posterior:
    """What votes on one criterion, and scores before them, say about all clips.

    Attributes:
        prior: precision of a strength before any vote.
        slope: what a unit of `scores` is worth in log odds.
        scores: candidate -> score, in standard deviations, higher better; a clip without one is 0.
        tie: ν.
    """

    prior: float = 1.0
    slope: float = SCORE_SLOPE
    scores: Mapping[str, float] = field(default_factory=dict)
    tie: float = TIE
    _counts: Counts | None = None
    _fit: Fit | None = None
    _blocks: Blocks | None = None
    _covariance: np.ndarray | None = None
    _conditions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Counts | None, *, scores: Mapping[str, float] | None = None, prior: float = 1.0) -> "Posterior":
        """Fits it.

        Args:
            counts: one criterion's votes; None where there are none yet.
            scores: warm start: candidate -> score, in standard deviations, higher better.
            prior: precision of a strength given its score.
        """
        scores = scores or {}
        if counts is None:
            return cls(prior=prior, scores=scores)
        known = np.array([scores.get(name, 0.0) for name in counts.questions.candidate_ids])
        slope = score_slope(counts, known)
        blocks = Blocks.of(counts.questions)
        fit = fit_davidson(counts, blocks, prior=prior, prior_mean=slope * known)
        conditions = {str(name): number for number, name in enumerate(counts.questions.condition_ids)}
        covariance = blocks.covariance(fit.curvature, prior)
        return cls(prior, slope, scores, fit.tie, counts, fit, blocks, covariance, conditions)

    def belief(self, condition_id: str, candidate_ids: Sequence[str]) -> Belief:
        """About these clips of a condition, whether or not anybody voted on them."""
        mean = np.array([self.slope * self.scores.get(name, 0.0) for name in candidate_ids])
        covariance = np.eye(len(candidate_ids)) / self.prior
        number = self._conditions.get(condition_id)
        if number is None or self._counts is None or self._fit is None or self._blocks is None:
            return Belief(candidate_ids, mean, covariance, self.tie)
        clips = slice(self._blocks.clips[number], self._blocks.clips[number + 1])
        place = {name: index for index, name in enumerate(candidate_ids)}
        found = [place.get(name, -1) for name in self._counts.questions.candidate_ids[clips]]
        inside = [index for index, where in enumerate(found) if where >= 0]
        where = [found[index] for index in inside]
        mean[where] = self._fit.strengths[clips][inside]
        block = self._blocks.block(self._covariance, number)  # type: ignore[arg-type]
        covariance[np.ix_(where, where)] = block[np.ix_(inside, inside)]
        return Belief(candidate_ids, mean, covariance, self.tie)


def most_informative(
    belief: Belief, pairs: Sequence[Pair], count: int, *, votes: int = 1, pending: Iterable[tuple[Pair, int]] = ()
) -> list[Pair]:
    """The questions to ask next, best first; each is chosen as if those before it had been answered.

    Args:
        belief: about the clips.
        pairs: what may be asked; of questions worth the same the first is taken.
        count: how many to choose at most.
        votes: how many answers each will get.
        pending: questions that are asked already, with the answers that are still to come.
    """
    place = {name: index for index, name in enumerate(belief.candidate_ids)}
    covariance = belief.covariance.copy()
    for (a, b), answers in pending:
        _answer(covariance, belief, np.array([place[a]]), np.array([place[b]]), 0, answers)
    first = np.array([place[a] for a, _ in pairs], dtype=int)
    second = np.array([place[b] for _, b in pairs], dtype=int)
    open_now = np.ones(len(pairs), dtype=bool)
    chosen: list[Pair] = []
    while open_now.any() and len(chosen) < count:
        variance = _variance(covariance, first, second)
        gain = variance * expected_information(belief.mean[first] - belief.mean[second], variance, belief.tie)
        # so that rounding does not decide between questions worth the same
        best = int(np.argmax(np.where(open_now, np.round(gain, 9), -1.0)))
        chosen.append(pairs[best])
        open_now[best] = False
        _answer(covariance, belief, first, second, best, votes)
    return chosen


def expected_information(mean: np.ndarray, variance: np.ndarray, tie: float) -> np.ndarray:
    """Fisher information of one answer about an advantage ~ N(mean, variance); Gauss–Hermite, 7 nodes."""
    advantage = mean[:, None] + np.sqrt(variance)[:, None] * _NODES
    return information(advantage, tie) @ _WEIGHTS


def score_slope(counts: Counts, scores: np.ndarray) -> float:
    """What a unit of score is worth in log odds, by the votes.

    The most probable slope of u = slope · (score of a − score of b), with a prior N(`SCORE_SLOPE`, 1).

    Args:
        counts: one criterion's votes.
        scores: float [N], of `counts.questions.candidate_ids`.
    """
    difference = (scores[counts.questions.first] - scores[counts.questions.second])[counts.question]
    slope = SCORE_SLOPE
    for _ in range(20):
        answer = expect_answer(slope * difference, TIE)
        gradient = counts.count @ (difference * (SCORE[counts.outcome] - answer.score)) - (slope - SCORE_SLOPE)
        step = gradient / (counts.count @ (difference**2 * answer.variance) + 1)
        slope += float(np.clip(step, -1, 1))
    return slope


def _variance(covariance: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    own = np.diagonal(covariance)
    return np.maximum(own[first] + own[second] - 2 * covariance[first, second], 0.0)


def _answer(
    covariance: np.ndarray, belief: Belief, first: np.ndarray, second: np.ndarray, which: int, answers: int
) -> None:
    """What so many answers to one question leave of the covariance, in place (Sherman–Morrison)."""
    a, b = first[which : which + 1], second[which : which + 1]
    variance = _variance(covariance, a, b)
    weight = answers * expected_information(belief.mean[a] - belief.mean[b], variance, belief.tie)
    column = covariance[:, a[0]] - covariance[:, b[0]]
    covariance -= float(weight[0] / (1 + weight[0] * variance[0])) * np.outer(column, column)
