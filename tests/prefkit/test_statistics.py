"""Intervals cover what they say, and say so where they cannot."""

import numpy as np
import pytest

from prefkit.statistics import (
    bootstrap_means,
    contracted_tail,
    expanded_tail,
    mean_interval,
    non_inferiority,
    win_rate_interval,
)


@pytest.mark.parametrize("num_clusters", [8, 40])
def test_intervals_cover_at_about_their_nominal_rate(num_clusters):
    rng = np.random.default_rng(1)
    covered = 0
    for repetition in range(400):
        interval = mean_interval(rng.normal(0.3, 1, num_clusters), resamples=500, seed=repetition)
        covered += interval.low <= 0.3 <= interval.high
    # 95 % ± three standard errors of 400 repetitions, and a little for 500 resamples
    assert 0.91 <= covered / 400 <= 0.985


def test_win_rates_cover_too():
    rng = np.random.default_rng(2)
    covered = 0
    for repetition in range(400):
        wins = rng.choice([0, 0.5, 1], 30, p=[0.3, 0.1, 0.6])
        interval = win_rate_interval(wins, resamples=500, seed=repetition)
        covered += interval.low <= 0.65 <= interval.high
    assert 0.91 <= covered / 400 <= 0.985


def test_a_clean_sweep_is_no_certainty():
    interval = win_rate_interval(np.ones(10))
    assert interval.high == 1.0
    assert interval.low**10 == pytest.approx(0.025)
    lost = win_rate_interval(np.zeros(10))
    assert (lost.low, lost.high) == (0.0, pytest.approx(1 - interval.low))


def test_one_cluster_has_no_interval_and_says_why():
    interval = mean_interval(np.array([2.0]))
    assert (interval.mean, interval.low, interval.high) == (2.0, None, None)
    assert "two conditions" in interval.reason
    assert non_inferiority(np.array([2.0]), 1.0).non_inferior is None


def test_non_inferiority_keeps_its_error_rate_and_finds_what_is_there():
    rng = np.random.default_rng(3)
    at_margin = sum(non_inferiority(rng.normal(-1, 1, 20), 1.0, resamples=500).non_inferior for _ in range(400))
    harmless = sum(non_inferiority(rng.normal(0, 1, 20), 1.0, resamples=500).non_inferior for _ in range(50))
    assert at_margin / 400 <= 0.085  # 5 % and three standard errors
    assert harmless / 50 >= 0.9


def test_bound_and_p_value_agree_on_clear_cases():
    clear = non_inferiority(np.full(20, 0.5), 0.1)
    assert clear.non_inferior and clear.bound == 0.5 and 0 < clear.p_value < 0.005
    bad = non_inferiority(np.full(20, -0.5), 0.1)
    assert not bad.non_inferior and bad.p_value == 1.0


def test_chunks_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(4).normal(size=7)
    whole = bootstrap_means(values, 50, seed=5)
    monkeypatch.setattr("prefkit.statistics.CHUNK", 21)
    np.testing.assert_array_equal(bootstrap_means(values, 50, seed=5), whole)


def test_tails_shrink_to_the_nominal_ones_with_many_clusters():
    assert expanded_tail(0.025, 5) < expanded_tail(0.025, 50) < 0.025
    assert expanded_tail(0.025, 100_000) == pytest.approx(0.025, rel=1e-3)
    assert contracted_tail(expanded_tail(0.025, 5), 5) == pytest.approx(0.025)


def test_the_p_value_crosses_five_percent_where_the_bound_crosses_the_margin():
    differences = np.random.default_rng(6).normal(0, 1, 12)
    bound = non_inferiority(differences, 9.0).bound
    assert (
        non_inferiority(differences, -bound * 1.02).p_value < 0.05 < non_inferiority(differences, -bound * 0.98).p_value
    )
