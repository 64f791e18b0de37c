"""How many votes a confidence takes: exact where the arithmetic is, and simulated."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prefkit.aggregation.plan import measured_accuracy, needed_margin, needed_votes, plan_votes, votes_to_come
from prefkit.errors import PrefkitError


def walk(rng, accuracy, margin):
    """Votes for and against the better clip, until one leads by the margin."""
    right = wrong = 0
    while abs(right - wrong) < margin:
        right, wrong = (right + 1, wrong) if rng.random() < accuracy else (right, wrong + 1)
    return right, wrong


def questions(counts, criterion="overall"):
    a, b = np.array(counts).reshape(-1, 2).T
    return pd.DataFrame({"criterion": criterion, "num_a": a, "num_b": b, "num_votes": a + b})


def test_annotators_who_are_right_four_times_in_five():
    """A lead of 2 is right 94.1 % of the time after 2.94 votes; five votes each are right 94.2 %."""
    assert needed_margin(0.8, 0.94) == 2 and needed_margin(0.8, 0.95) == 3
    assert votes_to_come(np.array([0]), 2, 0.8)[0] == pytest.approx(2 / (0.8**2 + 0.2**2))
    assert needed_votes(0.8, 0.94) == 5 and needed_votes(0.8, 0.95) == 7
    rng = np.random.default_rng(0)
    walks = np.array([walk(rng, 0.8, 2) for _ in range(4000)])
    assert walks.sum(axis=1).mean() == pytest.approx(2.94, abs=0.06)
    assert (walks[:, 0] > walks[:, 1]).mean() == pytest.approx(0.941, abs=0.012)
    assert walks.sum(axis=1).mean() < 0.65 * 5


@settings(deadline=None, max_examples=100)
@given(st.floats(0.55, 0.99), st.floats(0.6, 0.999))
def test_a_fixed_number_is_the_first_odd_one_that_will_do(accuracy, confidence):
    number = needed_votes(accuracy, confidence)
    assert number % 2 == 1
    assert stats.binom.sf(number // 2, number, accuracy) >= confidence - 1e-9
    if number > 1:
        assert stats.binom.sf((number - 2) // 2, number - 2, accuracy) < confidence + 1e-9


@settings(deadline=None, max_examples=100)
@given(st.floats(0.55, 0.99), st.integers(1, 6))
def test_a_lead_needs_no_more_votes_than_none(accuracy, margin):
    to_come = votes_to_come(np.arange(margin + 1), margin, accuracy)
    assert (np.diff(to_come) < 0).all()
    assert to_come[-1] == pytest.approx(0, abs=1e-6)
    assert to_come[0] >= margin - 1e-6


@pytest.mark.parametrize("accuracy", [0.65, 0.8, 0.95])
def test_accuracy_is_measured_although_asking_stops_early(accuracy):
    rng = np.random.default_rng(1)
    counts = np.array([walk(rng, accuracy, 2) for _ in range(600)])
    turned = np.where(rng.random((600, 1)) < 0.5, counts, counts[:, ::-1])
    assert measured_accuracy(*turned.T) == pytest.approx(accuracy, abs=0.05)


def test_too_few_shared_questions_measure_nothing():
    assert measured_accuracy(np.ones(100, int), np.zeros(100, int)) is None


def test_what_is_reached_and_what_is_to_come():
    plan = plan_votes(questions([(3, 0), (1, 0), (0, 2)]), 5, ["overall"], confidence=0.94, accuracy=0.8)
    row = plan.iloc[0]
    assert (row["comparisons"], row["votes"], row["measured"], row["margin"]) == (5, 6, False, 2)
    assert (row["reached"], row["reached_share"]) == (2, 0.4)
    expected = votes_to_come(np.array([1, 0, 0]), 2, 0.8).sum()  # two are not voted on yet
    assert row["votes_needed"] == np.ceil(expected)


def test_before_the_first_vote_every_criterion_is_planned():
    plan = plan_votes(questions(np.zeros((0, 2), int)), 10, ["expression", "overall"])
    assert list(plan["criterion"]) == ["expression", "overall"]
    assert (plan["reached"] == 0).all() and (plan["votes_needed"] > 0).all()


def test_annotators_at_chance_will_never_do():
    row = plan_votes(questions([(5, 5)] * 20), 20, ["overall"]).iloc[0]
    assert row["measured"] and row["accuracy"] < 0.51
    assert "chance" in row["reason"] and pd.isna(row["margin"])


@pytest.mark.parametrize("options", [{"confidence": 0.5}, {"confidence": 1.0}, {"accuracy": 0.4}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(PrefkitError, match="between 0.5 and 1"):
        plan_votes(questions([(1, 0)]), 1, ["overall"], **options)
