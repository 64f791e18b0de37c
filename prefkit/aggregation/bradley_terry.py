"""Bradley–Terry with ties, a bias to the left side and a reliability per annotator.

Annotator k answers a question about clips a and b as Davidson's model with the advantage

    u = r_k (s_a − s_b) + β side

says (`prefkit.aggregation.davidson`): s are the strengths of clips, β is how much the left clip is favoured,
side is 1 where a was on the left and −1 where b was, and r_k is the annotator's reliability: 1 is typical, 0
answers without looking, below 0 the wrong way round. It is item response theory's discrimination on the
annotators' side; Crowd-BT (Chen et al., Pairwise Ranking Aggregation in a Crowdsourced Setting, 2013) and
NoisyBradleyTerry mix in a chance of a careless answer instead, whose likelihood has more than one maximum.

Priors: s ~ N(m, 1 / prior), r ~ N(1, 1 / `RELIABILITY_PRECISION`), β ~ N(0, 1 / `PRECISION`),
log ν ~ N(0, 1 / `PRECISION`). Strengths are log odds as one sees them who looks, so reliabilities are scaled
(and strengths the other way) until their mean, weighted by votes and by themselves, is 1: who answers at
random does not count there.

The maximum is found by turns: Newton for the strengths of all conditions at once, then Newton for the
reliabilities, β and log ν, each of which is a concave problem; a step that does not climb is halved.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prefkit.aggregation.blocks import Blocks
from prefkit.aggregation.counts import SCORE, Counts
from prefkit.aggregation.davidson import Answer, expect_answer

PRECISION = 0.1
RELIABILITY_PRECISION = 4.0
TOLERANCE = 1e-5
MAX_SWEEPS = 200


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


@dataclass
class _State:
    strengths: np.ndarray  # [N]
    reliabilities: np.ndarray  # [K]
    bias: float
    log_tie: float  # −inf where nobody ever called a tie


def fit_davidson(counts: Counts, blocks: Blocks, *, prior: float = 1.0, prior_mean: np.ndarray | float = 0.0) -> Fit:
    """Fits the model to one criterion's counts.

    Args:
        counts: of at least one vote.
        blocks: of `counts.questions`.
        prior: precision of the strengths' prior, > 0.
        prior_mean: of the strengths, one number or float [N].
    """
    num_clips, num_annotators = len(counts.questions.candidate_ids), len(counts.annotators)
    problem = _Problem(counts, blocks, prior, np.broadcast_to(np.asarray(prior_mean, float), num_clips))
    state = _State(problem.prior_mean.copy(), np.ones(num_annotators), 0.0, 0.0 if problem.any_tie else -np.inf)
    converged = False
    sweep = 0
    while sweep < MAX_SWEEPS and not converged:
        sweep += 1
        before = _State(state.strengths, state.reliabilities, state.bias, state.log_tie)
        problem.step_strengths(state)
        problem.step_annotators(state)
        if num_annotators == 1:
            state.reliabilities = np.ones(1)
        problem.rescale(state)
        converged = _moved(before, state) < TOLERANCE
    tie = float(np.exp(state.log_tie))
    answer = expect_answer(problem.advantage(state), tie)
    curvature = problem.by_question(problem.reliability(state) ** 2 * counts.count * answer.variance)
    return Fit(state.strengths, state.reliabilities, state.bias, tie, curvature, sweep, converged)


class _Problem:
    def __init__(self, counts: Counts, blocks: Blocks, prior: float, prior_mean: np.ndarray):
        self.counts = counts
        self.blocks = blocks
        self.prior = prior
        self.prior_mean = prior_mean
        self.score = SCORE[counts.outcome]
        self.tied = counts.outcome == 1
        self.num_tied = float(counts.count @ self.tied)
        self.any_tie = self.num_tied > 0
        self.starts = np.flatnonzero(np.diff(counts.question, prepend=-1))
        self.votes = self.by_annotator(counts.count)

    def by_question(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, self.starts)

    def by_annotator(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.counts.annotator, values, minlength=len(self.counts.annotators))

    def reliability(self, state: _State) -> np.ndarray:
        return state.reliabilities[self.counts.annotator]

    def difference(self, state: _State) -> np.ndarray:
        """s_a − s_b of each cell."""
        questions = self.counts.questions
        return (state.strengths[questions.first] - state.strengths[questions.second])[self.counts.question]

    def advantage(self, state: _State) -> np.ndarray:
        return self.reliability(state) * self.difference(state) + state.bias * self.counts.side

    def objective(self, state: _State, advantage: np.ndarray, answer: Answer) -> float:
        """The log posterior, up to a constant."""
        log_likelihood = self.counts.count @ (self.score * advantage - np.log(answer.normaliser))
        ties = self.num_tied * state.log_tie - PRECISION / 2 * state.log_tie**2 if self.any_tie else 0.0
        strengths = state.strengths - self.prior_mean
        reliabilities = state.reliabilities - 1
        return float(
            log_likelihood
            + ties
            - self.prior / 2 * (strengths @ strengths)
            - RELIABILITY_PRECISION / 2 * (reliabilities @ reliabilities)
            - PRECISION / 2 * state.bias**2
        )

    def step_strengths(self, state: _State) -> None:
        count, reliability = self.counts.count, self.reliability(state)
        advantage = self.advantage(state)
        answer = expect_answer(advantage, np.exp(state.log_tie))
        slope = self.by_question(reliability * count * (self.score - answer.score))
        curvature = self.by_question(reliability**2 * count * answer.variance)
        gradient = self.blocks.gradient @ slope - self.prior * (state.strengths - self.prior_mean)
        step = self.blocks.solve(gradient, curvature, self.prior)
        old = state.strengths

        def move(length: float) -> None:
            state.strengths = old + length * step

        self._climb(state, self.objective(state, advantage, answer), move)

    def step_annotators(self, state: _State) -> None:
        count, side, difference = self.counts.count, self.counts.side, self.difference(state)
        advantage = self.advantage(state)
        answer = expect_answer(advantage, np.exp(state.log_tie))
        left_over = count * (self.score - answer.score)
        variance = count * answer.variance
        mixed = -count * answer.score * answer.tie  # covariance of score and tie

        own = self.by_annotator(variance * difference**2) + RELIABILITY_PRECISION
        own_slope = self.by_annotator(left_over * difference) - RELIABILITY_PRECISION * (state.reliabilities - 1)
        border = np.stack(
            [self.by_annotator(variance * difference * side), self.by_annotator(mixed * difference)], axis=1
        )
        shared_slope = np.array([left_over @ side - PRECISION * state.bias, 0.0])
        corner = np.array([[variance @ side**2, mixed @ side], [mixed @ side, 1.0]])
        corner[0, 0] += PRECISION
        if self.any_tie:
            shared_slope[1] = self.num_tied - count @ answer.tie - PRECISION * state.log_tie
            corner[1, 1] = count @ (answer.tie * (1 - answer.tie)) + PRECISION
        shared = np.linalg.solve(
            corner - border.T @ (border / own[:, None]), shared_slope - border.T @ (own_slope / own)
        )
        own_step = (own_slope - border @ shared) / own
        old = _State(state.strengths, state.reliabilities, state.bias, state.log_tie)

        def move(length: float) -> None:
            state.reliabilities = old.reliabilities + length * own_step
            state.bias = old.bias + length * float(shared[0])
            state.log_tie = old.log_tie + length * float(shared[1])

        self._climb(state, self.objective(state, advantage, answer), move)

    def rescale(self, state: _State) -> None:
        """Makes 1 the reliability of a typical annotator who looks; no probability changes."""
        weight = self.votes * np.maximum(state.reliabilities, 0)
        if not weight.any():
            return
        typical = float(weight @ state.reliabilities / weight.sum())
        state.reliabilities = state.reliabilities / typical
        state.strengths = state.strengths * typical

    def _climb(self, state: _State, before: float, move: Callable[[float], None]) -> None:
        length = 1.0
        for _ in range(30):
            move(length)
            advantage = self.advantage(state)
            if self.objective(state, advantage, expect_answer(advantage, np.exp(state.log_tie))) >= before:
                return
            length /= 2
        move(0.0)


def _moved(before: _State, after: _State) -> float:
    changes = [
        np.abs(before.strengths - after.strengths).max(),
        np.abs(before.reliabilities - after.reliabilities).max(),
    ]
    changes.append(abs(before.bias - after.bias))
    changes.append(abs(np.exp(before.log_tie) - np.exp(after.log_tie)))
    return float(max(changes))
