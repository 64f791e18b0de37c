"""The model finds what votes were drawn from, and is what others compute where theirs is a special case."""

import choix
import evalica
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prefkit.aggregation.blocks import Blocks
from prefkit.aggregation.bradley_terry import fit_davidson, posterior_reliabilities
from prefkit.aggregation.coding import code_votes
from prefkit.aggregation.counts import count_ballots
from prefkit.aggregation.davidson import expect_answer, probability_better
from prefkit.aggregation.model import fit_votes
from prefkit.synthetic.ballots import draw_ballots


def one_voice(drawn):
    """The votes as of one annotator whose screen nobody knows: strengths and ties are all there is."""
    return drawn.votes.assign(annotator=drawn.votes["vote_id"], left=None).assign(annotator="only")


def plain_fit(drawn, prior):
    counts = count_ballots(code_votes(one_voice(drawn)), drawn.comparisons)["overall"]
    fit = fit_davidson(counts, Blocks.of(counts.questions), prior=prior)
    assert fit.converged and fit.left_bias == 0 and fit.reliabilities == 1
    return counts, fit, drawn.votes.merge(drawn.comparisons, on="comparison_id")


def test_without_ties_it_is_bradley_terry_as_in_choix():
    drawn = draw_ballots(conditions=1, clips=8, num_votes=300, tie=0.0, seed=1)
    counts, fit, rows = plain_fit(drawn, prior=0.2)
    number = {name: place for place, name in enumerate(counts.questions.candidate_ids)}
    a, b = rows["candidate_a"].map(number), rows["candidate_b"].map(number)
    a_wins = rows["choice"] == "a"
    data = list(zip(np.where(a_wins, a, b), np.where(a_wins, b, a), strict=True))
    theirs = choix.opt_pairwise(8, data, alpha=0.1, tol=1e-10)  # its penalty is alpha · Σ s², ours prior / 2 · Σ s²
    np.testing.assert_allclose(fit.strengths, theirs, atol=1e-4)


def test_with_ties_it_is_newmans_model_as_in_evalica():
    drawn = draw_ballots(conditions=1, clips=6, num_votes=600, tie=0.8, seed=2)
    counts, fit, rows = plain_fit(drawn, prior=1e-6)
    winner = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    theirs = evalica.newman(
        rows["candidate_a"], rows["candidate_b"], rows["choice"].map(winner), tolerance=1e-12, limit=10_000
    )
    log_scores = np.log(theirs.scores[list(counts.questions.candidate_ids)].to_numpy())
    np.testing.assert_allclose(fit.strengths - fit.strengths.mean(), log_scores - log_scores.mean(), atol=2e-3)
    assert fit.tie == pytest.approx(2 * theirs.v, rel=2e-3)  # Newman's ν is half of Davidson's


def test_strengths_left_bias_and_careless_annotators_are_recovered():
    drawn = draw_ballots(conditions=3, clips=32, num_votes=3 * 496 * 10, careless=0.2, left_bias=0.3, seed=0)
    found = fit_votes(drawn.votes, drawn.comparisons, resamples=0)
    both = found.strengths.set_index("candidate_id")[["strength"]].assign(true=drawn.strengths)
    both["condition"] = np.repeat(np.arange(3), 32)
    for _, group in both.groupby("condition"):
        assert stats.spearmanr(group["strength"], group["true"])[0] >= 0.95
    criterion = found.criteria.iloc[0]
    assert criterion["converged"]
    assert criterion["left_bias"] == pytest.approx(0.3, abs=0.05)
    assert criterion["tie_share"] == pytest.approx(0.2, abs=0.02)
    reliability = found.annotators.set_index("annotator")["reliability"]
    careless = drawn.reliabilities == 0
    assert reliability[careless[careless].index].max() < 0.4 < reliability[careless[~careless].index].min()


def test_careless_votes_change_little():
    drawn = draw_ballots(conditions=30, clips=4, num_votes=1800, careless=0.4, seed=3)
    honest = drawn.votes[drawn.votes["annotator"].map(drawn.reliabilities) > 0]
    truth = drawn.strengths - drawn.strengths.groupby(np.arange(120) // 4).transform("mean")

    def error(votes, prior=1.0):
        found = fit_votes(votes, drawn.comparisons, resamples=0, prior=prior).strengths.set_index("candidate_id")
        return float(np.sqrt(((found["strength"] - truth[found.index]) ** 2).mean()))

    blind = error(drawn.votes.assign(annotator="all alike"))
    assert error(drawn.votes) < error(honest) + 0.5 * (blind - error(honest))


def test_a_left_bias_does_not_leak_into_probabilities():
    drawn = draw_ballots(conditions=2, clips=6, num_votes=3000, annotators=120, left_bias=1.0, seed=4)
    lopsided = drawn.votes[(drawn.votes["left"] == "a") | (drawn.votes.index % 4 == 0)]
    found = fit_votes(lopsided, drawn.comparisons, resamples=0).questions.set_index("comparison_id")
    asked = drawn.comparisons.set_index("comparison_id").loc[found.index]
    advantage = drawn.strengths[asked["candidate_a"]].to_numpy() - drawn.strengths[asked["candidate_b"]].to_numpy()
    error = found["probability"] - probability_better(advantage, 0.5)
    assert abs(error.mean()) < 0.03  # 0.18 if the bias were taken for strength
    assert error.abs().max() < 0.15


def test_conditions_do_not_meet():
    """Strengths of one condition do not depend on another's, but for what annotators and ties have in common."""
    drawn = draw_ballots(conditions=2, clips=5, num_votes=400, tie=0.0, seed=5)
    votes = one_voice(drawn)
    both = fit_votes(votes, drawn.comparisons, resamples=0).strengths
    first = drawn.comparisons[drawn.comparisons["condition_id"] == "condition-000000"]
    alone = fit_votes(votes[votes["comparison_id"].isin(first["comparison_id"])], first, resamples=0).strengths
    np.testing.assert_allclose(both["strength"][:5], alone["strength"], atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(st.floats(-50, 50), st.floats(0, 20))
def test_the_three_answers_make_a_distribution(advantage, tie):
    answer = expect_answer(np.array(advantage), tie)
    a, b = 0.5 * (1 - answer.tie) + answer.score, 0.5 * (1 - answer.tie) - answer.score
    assert min(a, b, answer.tie) >= -1e-12
    assert a + b + answer.tie == pytest.approx(1)
    assert answer.variance == pytest.approx((a + b) / 4 - answer.score**2, abs=1e-12)
    assert probability_better(np.array(advantage), tie) == pytest.approx(
        1 - probability_better(np.array(-advantage), tie)
    )


@settings(deadline=None, max_examples=100)
@given(st.floats(-1, 2), st.floats(-100, 100), st.floats(0, 1000))
def test_a_reliability_lies_between_what_is_usual_and_what_the_votes_say(current, slope, information):
    found = posterior_reliabilities(np.array([current]), np.array([slope]), np.array([information]))[0]
    estimate = current + slope / max(information, 1e-9)
    assert min(estimate, 0.0) - 1e-9 <= found <= max(estimate, 1.0) + 1e-9


def test_without_votes_an_annotator_is_usual_and_with_many_what_they_say():
    usual, careless, sharp = posterior_reliabilities(
        np.full(3, 1.0), np.array([0, -2000.0, 1000.0]), np.array([0, 2000.0, 2000.0])
    )
    assert usual == pytest.approx(0.9)
    assert careless == pytest.approx(0.0, abs=0.02)
    assert sharp == pytest.approx(1.5, abs=0.05)


def test_all_ties_are_even():
    drawn = draw_ballots(conditions=1, clips=4, num_votes=60, seed=6)
    found = fit_votes(drawn.votes.assign(choice="tie"), drawn.comparisons, resamples=0)
    np.testing.assert_allclose(found.questions["probability"], 0.5)
    assert (found.questions["tie_probability"] > 0.9).all()
    np.testing.assert_allclose(found.strengths["strength"], 0, atol=1e-9)
    assert found.criteria["converged"].all()


def test_who_wins_every_time_is_far_ahead_but_not_infinitely():
    votes = draw_ballots(conditions=1, clips=2, num_votes=50, seed=7)
    found = fit_votes(votes.votes.assign(choice="a"), votes.comparisons, resamples=50)
    row = found.questions.iloc[0]
    assert 0.8 < row["low"] < row["probability"] < row["high"] < 1


def test_scores_of_nobody(tmp_path):
    drawn = draw_ballots(conditions=1, clips=3, num_votes=6, seed=8)
    found = fit_votes(drawn.votes.assign(choice="skip"), drawn.comparisons)
    assert all(table.empty for table in (found.questions, found.strengths, found.annotators, found.criteria))
    assert isinstance(found.strengths, pd.DataFrame)
