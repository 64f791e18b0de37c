"""Bradley–Terry with ties, a bias to the left side and a reliability per annotator.

Annotator k answers a question about clips a and b as Davidson's model with the advantage

    u = r_k (s_a − s_b) + β side

says (`prefkit.aggregation.davidson`): s are the strengths of clips, β is how much the left clip is favoured,
side is 1 where a was on the left and −1 where b was, and r_k is the annotator's reliability: 1 is typical, 0
answers without looking, below 0 the wrong way round. It is item response theory's discrimination on the
annotators' side; Crowd-BT (Chen et al., Pairwise Ranking Aggregation in a Crowdsourced Setting, 2013) and
NoisyBradleyTerry mix in a chance of a careless answer instead, whose likelihood has more than one maximum.

Priors: s ~ N(m, 1 / prior); β ~ N(0, 1 / `BIAS_PRECISION`); log ν ~ N(0, 1 / `TIE_PRECISION`); r is from one of
two groups (`GROUPS`): nine in ten annotators are much alike, the others are anything around answering without
looking. So reliabilities of people with few votes do not follow noise, and a careless one still stands out. (A
wide prior for all, or none, overstates strengths: who happens to agree with the others gets more weight, which
makes them agree more.) Strengths are log odds as one sees them who looks, so reliabilities are scaled (and
strengths the other way) until their mean, weighted by votes and by themselves, is 1: who answers at random does
not count there.

Found by turns until nothing moves: Newton for the strengths of all conditions at once, a step that does not
climb being halved; then Newton for β and log ν, and each r's posterior mean under the normal approximation of
its likelihood (the two-groups model of empirical Bayes: Efron, Large-Scale Inference, 2010).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from prefkit.aggregation.blocks import Blocks
from prefkit.aggregation.counts import SCORE, Counts
from prefkit.aggregation.davidson import Answer, expect_answer

# of the priors of β (a bias of one half in log odds is usual) and of log ν
BIAS_PRECISION = 4.0
TIE_PRECISION = 0.1
TOLERANCE = 1e-5
MAX_SWEEPS = 200
# (share, mean, standard deviation) of reliabilities: annotators who look, and all others
GROUPS = ((0.9, 1.0, 0.2), (0.1, 0.0, 0.5))
# No sensible reliability lies beyond; and no step of β or log ν is taken on trust beyond one.
MOST_RELIABLE = 4.0
LONGEST_STEP = 1.0
# relative error of a sum over a million votes
ROUNDING = 1e-13


@dataclass(frozen=True)
class Fit:
    """The most probable parameters.

    Attributes:
        strengths: float [N], log odds, about the prior's mean in each condition.
        reliabilities: float [K].
        left_bias: β in log odds; logistic(β) is how often the left of two equal clips wins, ties apart.
        tie: ν; ν / (2 + ν) is how often two equal clips are called a tie.
        curvature: float [Q], the information that the votes hold about each question's s_a − s_b.
        sweeps: how many turns it took.
        converged: whether no parameter moved more than `TOLERANCE` in the last one.
    """

    strengths: np.ndarray
    reliabilities: np.ndarray
    left_bias: float
    tie: float
    curvature: np.ndarray
    sweeps: int
    converged: bool

    def advantage(self, counts: Counts) -> np.ndarray:
        """s_a − s_b of each question, float [Q]."""
        return self.strengths[counts.questions.first] - self.strengths[counts.questions.second]


@dataclass(frozen=True)
class _State:
    strengths: np.ndarray  # [N]
    reliabilities: np.ndarray  # [K]
    bias: float
    log_tie: float  # −inf where nobody ever called a tie


@dataclass(frozen=True)
class _Point:
    """A state and what follows from it for each cell."""

    state: _State
    reliability: np.ndarray
    difference: np.ndarray  # s_a − s_b
    answer: Answer
    log_likelihood: float


def fit_davidson(counts: Counts, blocks: Blocks, *, prior: float = 1.0, prior_mean: np.ndarray | float = 0.0) -> Fit:
    """Fits the model to one criterion's counts.

    Args:
        counts: of at least one vote.
        blocks: of `counts.questions`.
        prior: precision of the strengths' prior, > 0.
        prior_mean: of the strengths, one number or float [N].
    """
    num_clips, num_annotators = len(counts.questions.candidate_ids), len(counts.annotators)
    mean = np.array(np.broadcast_to(np.asarray(prior_mean, float), num_clips))
    problem = _Problem(counts, blocks, prior, mean)
    point = problem.at(_State(mean, np.ones(num_annotators), 0.0, 0.0 if problem.any_tie else -np.inf))
    converged = False
    sweep = 0
    while sweep < MAX_SWEEPS and not converged:
        sweep += 1
        before = point.state
        point = problem.rescale(problem.step_annotators(problem.step_strengths(point)))
        converged = _moved(before, point.state) < TOLERANCE
    state = point.state
    curvature = problem.by_question(point.reliability**2 * counts.count * point.answer.variance)
    return Fit(
        state.strengths, state.reliabilities, state.bias, float(np.exp(state.log_tie)), curvature, sweep, converged
    )


class _Problem:
    def __init__(self, counts: Counts, blocks: Blocks, prior: float, prior_mean: np.ndarray):
        self.counts = counts
        self.blocks = blocks
        self.prior = prior
        self.prior_mean = prior_mean
        self.score = SCORE[counts.outcome]
        self.num_tied = float(counts.count @ (counts.outcome == 1))
        self.any_tie = self.num_tied > 0
        self.starts = np.flatnonzero(np.diff(counts.question, prepend=-1))
        self.first = counts.questions.first[counts.question]
        self.second = counts.questions.second[counts.question]
        self.votes = np.bincount(counts.annotator, counts.count)

    def by_question(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, self.starts)

    def by_annotator(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.counts.annotator, values, minlength=len(self.votes))

    def at(self, state: _State) -> _Point:
        reliability = state.reliabilities[self.counts.annotator]
        difference = state.strengths[self.first] - state.strengths[self.second]
        advantage = reliability * difference
        advantage += state.bias * self.counts.side
        answer = expect_answer(advantage, float(np.exp(state.log_tie)))
        advantage *= self.score
        advantage -= np.log(answer.normaliser)
        log_likelihood = float(self.counts.count @ advantage)
        if self.any_tie:
            log_likelihood += self.num_tied * state.log_tie
        return _Point(state, reliability, difference, answer, log_likelihood)

    def objective(self, point: _Point) -> float:
        """The log posterior of the strengths, up to a constant."""
        strengths = point.state.strengths - self.prior_mean
        return point.log_likelihood - 0.5 * self.prior * float(strengths @ strengths)

    def step_strengths(self, point: _Point) -> _Point:
        state, answer = point.state, point.answer
        weight = point.reliability * self.counts.count
        slope = self.by_question(weight * (self.score - answer.score))
        weight *= point.reliability
        curvature = self.by_question(weight * answer.variance)
        gradient = self.blocks.gradient @ slope - self.prior * (state.strengths - self.prior_mean)
        step = self.blocks.solve(gradient, curvature, self.prior)
        return self._climb(point, lambda length: replace(state, strengths=state.strengths + length * step))

    def step_annotators(self, point: _Point) -> _Point:
        state, answer = point.state, point.answer
        left_over = self.counts.count * (self.score - answer.score)
        variance = self.counts.count * answer.variance
        bias, log_tie = self._shared(point, left_over, variance)
        reliabilities = state.reliabilities
        if len(self.votes) > 1:  # one annotator alone is the typical one
            left_over *= point.difference
            variance *= point.difference
            variance *= point.difference
            reliabilities = posterior_reliabilities(
                reliabilities, self.by_annotator(left_over), self.by_annotator(variance)
            )
        return self.at(_State(state.strengths, reliabilities, bias, log_tie))

    def _shared(self, point: _Point, left_over: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
        """One step of Newton for β and log ν."""
        state, answer, side, count = point.state, point.answer, self.counts.side, self.counts.count
        slope = np.array([left_over @ side - BIAS_PRECISION * state.bias, 0.0])
        curvature = np.array([[variance @ side**2 + BIAS_PRECISION, 0.0], [0.0, 1.0]])
        if self.any_tie:
            slope[1] = self.num_tied - count @ answer.tie - TIE_PRECISION * state.log_tie
            curvature[1, 1] = count @ (answer.tie * (1 - answer.tie)) + TIE_PRECISION
            curvature[0, 1] = curvature[1, 0] = -count @ (answer.score * answer.tie * side)  # their covariance
        step = np.clip(np.linalg.solve(curvature, slope), -LONGEST_STEP, LONGEST_STEP)
        return state.bias + float(step[0]), state.log_tie + float(step[1])

    def rescale(self, point: _Point) -> _Point:
        """Makes 1 the reliability of a typical annotator who looks; no probability changes."""
        state = point.state
        weight = self.votes * np.maximum(state.reliabilities, 0)
        if not weight.any():
            return point
        typical = float(weight @ state.reliabilities / weight.sum())
        scaled = replace(state, strengths=state.strengths * typical, reliabilities=state.reliabilities / typical)
        return replace(
            point, state=scaled, difference=point.difference * typical, reliability=point.reliability / typical
        )

    def _climb(self, start: _Point, move: Callable[[float], _State]) -> _Point:
        """The first of ever shorter moves that does not lead down."""
        before = self.objective(start)
        before -= ROUNDING * abs(before)
        for halvings in range(30):
            point = self.at(move(0.5**halvings))
            if self.objective(point) >= before:
                return point
        return start


def posterior_reliabilities(current: np.ndarray, slope: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Posterior means of reliabilities under `GROUPS`.

    Args:
        current: float [K], where slope and information were taken.
        slope: of each annotator's log likelihood.
        information: about each reliability, ≥ 0: minus the expected second derivative.
    """
    information = np.maximum(information, 1e-9)
    estimate = current + slope / information
    weights, means = [], []
    for share, mean, deviation in GROUPS:
        variance = deviation**2 + 1 / information
        weights.append(np.log(share) - 0.5 * (np.log(variance) + (estimate - mean) ** 2 / variance))
        precision = deviation**-2
        means.append((information * estimate + precision * mean) / (information + precision))
    weight = np.exp(np.array(weights) - np.max(weights, axis=0))
    posterior = (weight * means).sum(axis=0) / weight.sum(axis=0)
    return np.clip(posterior, -MOST_RELIABLE, MOST_RELIABLE)


def _moved(before: _State, after: _State) -> float:
    changes = [
        np.abs(before.strengths - after.strengths).max(),
        np.abs(before.reliabilities - after.reliabilities).max(),
    ]
    changes.append(abs(before.bias - after.bias))
    changes.append(abs(np.exp(before.log_tie) - np.exp(after.log_tie)))
    return float(max(changes))
