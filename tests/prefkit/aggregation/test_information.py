"""Active choice: the question whose answer tells most."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.aggregation.coding import code_votes
from prefkit.aggregation.counts import count_ballots
from prefkit.aggregation.information import Belief, Posterior, expected_information, most_informative
from prefkit.synthetic.ballots import draw_ballots

NAMES = ["p", "q", "r", "s"]
PAIRS = list(itertools.combinations(NAMES, 2))


def belief(mean=(0, 0, 0, 0), variance=(1, 1, 1, 1)):
    return Belief(NAMES, np.array(mean, float), np.diag(np.array(variance, float)))


def posterior_of(drawn, **options):
    counts = count_ballots(code_votes(drawn.votes), drawn.comparisons)["overall"]
    return Posterior.of(counts, **options)


def test_the_uncertain_and_even_come_first():
    assert most_informative(belief(variance=(1, 1, 3, 3)), PAIRS, 1) == [("r", "s")]
    assert most_informative(belief(mean=(0, 5, 10, 0)), PAIRS, 1) == [("p", "s")]


def test_the_next_question_counts_on_the_answers_to_those_before_it():
    """Without that, a clip of which little is known would be in every question."""
    first, second = most_informative(belief(variance=(1, 1, 1.1, 1.1)), PAIRS, 2)
    assert first == ("r", "s") and set(second) == {"p", "q"}
    assert most_informative(belief(), PAIRS, 1, pending=[(("p", "q"), 3)])[0] == ("r", "s")


def test_equal_questions_keep_their_order():
    assert most_informative(belief(), PAIRS[::-1], 1) == [PAIRS[-1]]
    assert len(most_informative(belief(), PAIRS, 99)) == len(PAIRS)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.lists(st.floats(0.05, 4), min_size=4, max_size=4))
def test_the_first_choice_shrinks_the_posterior_most(mean, variance):
    """½ log det of the precision after one answer, computed in full for every question."""
    told = belief(mean, variance)
    (chosen,) = most_informative(told, PAIRS, 1)
    gains = {}
    for a, b in PAIRS:
        x = np.zeros(4)
        x[NAMES.index(a)], x[NAMES.index(b)] = 1, -1
        information = expected_information(np.array([x @ told.mean]), np.array([x @ told.covariance @ x]), told.tie)
        precision = np.linalg.inv(told.covariance) + information[0] * np.outer(x, x)
        gains[a, b] = 0.5 * np.linalg.slogdet(precision)[1]
    assert gains[chosen] == pytest.approx(max(gains.values()), abs=1e-6)


def test_votes_narrow_what_is_believed():
    drawn = draw_ballots(conditions=2, clips=4, num_votes=120, seed=0)
    told = posterior_of(drawn).belief("condition-000000", [f"clip-{number:07d}" for number in range(4)])
    truth = drawn.strengths.iloc[:4].to_numpy()
    assert np.corrcoef(told.mean, truth)[0, 1] > 0.7
    difference = told.covariance[0, 0] + told.covariance[1, 1] - 2 * told.covariance[0, 1]
    assert 0 < difference < 0.7 < 2  # 2 before any vote


def test_a_clip_nobody_voted_on_is_as_before():
    drawn = draw_ballots(conditions=1, clips=3, num_votes=30, seed=0)
    told = posterior_of(drawn, scores={"new": 2.0}).belief("condition-000000", ["clip-0000000", "new"])
    assert told.covariance[1, 1] == 1 and told.covariance[0, 1] == 0
    assert told.mean[1] != 0


@pytest.mark.parametrize("sign", [1, -1])
def test_votes_say_what_scores_are_worth(sign):
    """A score that goes the other way is turned round."""
    drawn = draw_ballots(conditions=30, clips=4, num_votes=900, seed=1)
    scores = (sign * drawn.strengths).to_dict()
    slope = posterior_of(drawn, scores=scores).slope
    assert slope == pytest.approx(sign, abs=0.35)


def test_active_questions_narrow_more_than_random_ones():
    """After equally many answers the strengths' covariance is smaller; the votes saved are in the benchmark."""
    rng = np.random.default_rng(0)
    names = [f"{number:02d}" for number in range(16)]
    pairs = list(itertools.combinations(names, 2))
    told = Belief(names, rng.normal(0, 1.6, 16), np.eye(16))
    shuffled = [pairs[index] for index in rng.permutation(len(pairs))]

    def volume(asked):
        precision = np.eye(16)
        for a, b in asked:
            x = np.zeros(16)
            x[int(a)], x[int(b)] = 1, -1
            precision += expected_information(np.array([x @ told.mean]), np.zeros(1), told.tie)[0] * np.outer(x, x)
        return -np.linalg.slogdet(precision)[1]

    assert volume(most_informative(told, shuffled, 40)) < volume(shuffled[:40]) - 1
