"""Davidson's model of one answer: a, tie or b.

P(a) : P(tie) : P(b) = exp(u / 2) : ν : exp(−u / 2), where u is a's advantage in log odds and ν ≥ 0 says how
easily people call a tie (Davidson, On Extending the Bradley–Terry Model to Accommodate Ties in Paired
Comparison Experiments, 1970; a bias to one side adds to u: Davidson & Beaver 1977). ν = 0 is Bradley–Terry.
All functions work elementwise on arrays of any shape.
"""

from typing import NamedTuple

import numpy as np

# exp of half of it still is a finite float64, and nobody can tell such odds from certainty
LARGEST_ADVANTAGE = 200.0


class Answer(NamedTuple):
    """What to expect of an answer.

    Attributes:
        score: E[y] where y is ½ for a, 0 for a tie and −½ for b; the derivative of `log_normaliser`.
        tie: P(tie).
        variance: Var[y]; the second derivative of `log_normaliser` in u.
        normaliser: exp(u / 2) + ν + exp(−u / 2).
    """

    score: np.ndarray
    tie: np.ndarray
    variance: np.ndarray
    normaliser: np.ndarray


def expect_answer(advantage: np.ndarray, tie: float) -> Answer:
    """The distribution of an answer at `advantage` u in log odds and with ν = `tie`."""
    odds = np.exp(0.5 * np.clip(advantage, -LARGEST_ADVANTAGE, LARGEST_ADVANTAGE))
    inverse = 1.0 / odds
    normaliser = odds + inverse
    normaliser += tie
    score = (odds - inverse) * 0.5
    score /= normaliser
    tie_probability = tie / normaliser
    variance = 0.25 * (1.0 - tie_probability) - score * score
    return Answer(score, tie_probability, variance, normaliser)


def probability_better(advantage: np.ndarray, tie: float) -> np.ndarray:
    """P(a) + P(tie) / 2, in (0, 1); it grows with the advantage."""
    return 0.5 + expect_answer(advantage, tie).score


def information(advantage: np.ndarray, tie: float) -> np.ndarray:
    """Fisher information of one answer about the advantage: Var[y]."""
    return expect_answer(advantage, tie).variance
