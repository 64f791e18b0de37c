"""Base against tuned: pairing, ties, directions, and symmetry."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import PrefkitError
from prefkit.evaluation import clip_scores, compare_models

FEW = {"resamples": 200}


def scores(values, metric="sync_c"):
    """Rows from {(condition, seed): value}."""
    rows = [{"condition_id": c, "seed": s, "metric": metric, "value": value} for (c, s), value in values.items()]
    return pd.DataFrame(rows, columns=["condition_id", "seed", "metric", "value"])


paired = st.dictionaries(
    st.tuples(st.sampled_from("pqrst"), st.integers(0, 3)),
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    min_size=1,
)


@settings(deadline=None, max_examples=40)
@given(paired, st.sampled_from(["higher", "lower"]))
def test_swapping_the_models_mirrors_everything(values, direction):
    base = scores({key: float(pair[0]) for key, pair in values.items()})
    tuned = scores({key: float(pair[1]) for key, pair in values.items()})
    (row,) = compare_models(base, tuned, {"sync_c": direction}, **FEW)
    (swapped,) = compare_models(tuned, base, {"sync_c": direction}, **FEW)
    assert swapped["win_rate"] == pytest.approx(1 - row["win_rate"])
    assert swapped["difference"] == pytest.approx(-row["difference"])
    assert (swapped["wins"], swapped["ties"], swapped["losses"]) == (row["losses"], row["ties"], row["wins"])
    if row["num_conditions"] > 1:
        assert swapped["win_rate_low"] == pytest.approx(1 - row["win_rate_high"])
        assert swapped["difference_high"] == pytest.approx(-row["difference_low"])


@settings(deadline=None, max_examples=40)
@given(paired)
def test_lower_is_higher_of_the_negative(values):
    base = scores({key: float(pair[0]) for key, pair in values.items()})
    tuned = scores({key: float(pair[1]) for key, pair in values.items()})
    (higher,) = compare_models(base, tuned, {"sync_c": "higher"}, **FEW)
    (lower,) = compare_models(
        base.assign(value=-base["value"]), tuned.assign(value=-tuned["value"]), {"sync_c": "lower"}, **FEW
    )
    assert lower["win_rate"] == higher["win_rate"] and lower["win_rate_low"] == higher["win_rate_low"]


def test_each_condition_weighs_the_same_whatever_its_number_of_clips():
    base = scores({("p", seed): 0.0 for seed in range(9)} | {("q", 0): 0.0})
    tuned = scores({("p", seed): 1.0 for seed in range(9)} | {("q", 0): -3.0})
    (row,) = compare_models(base, tuned, {"sync_c": "higher"}, **FEW)
    assert (row["win_rate"], row["difference"], row["num_conditions"], row["num_pairs"]) == (0.5, -1.0, 2, 10)
    assert (row["wins"], row["losses"]) == (9, 1)


def test_clips_without_partner_or_value_are_counted_not_compared():
    base = scores({("p", 0): 1.0, ("p", 1): None, ("q", 0): 1.0, ("q", 1): 1.0})
    tuned = scores({("p", 0): 2.0, ("p", 1): 5.0, ("q", 0): 1.0})
    (row,) = compare_models(base, tuned, {"sync_c": "higher"}, **FEW)
    assert (row["num_pairs"], row["num_missing"], row["wins"], row["ties"]) == (2, 2, 1, 1)
    assert row["win_rate"] == 0.75


def test_a_metric_nobody_scored_is_null_with_a_reason():
    (row,) = compare_models(scores({}), scores({}), {"sync_c": "higher"})
    assert row["win_rate"] is None and row["difference"] is None
    assert "no condition" in row["reason"]


def test_a_band_metric_has_no_winner_and_is_tested_against_its_margin():
    rng = np.random.default_rng(0)
    keys = [(f"c{index}", 0) for index in range(40)]
    base = scores({key: 2 + rng.normal() * 0.1 for key in keys}, "head_speed")
    for shift, verdict in ((-0.05, True), (-0.5, False)):
        tuned = base.assign(value=base["value"] + shift + rng.normal(size=40) * 0.1)
        (row,) = compare_models(base, tuned, {"head_speed": "band"}, margins={"head_speed": 0.2})
        assert row["win_rate"] is None and row["wins"] is None
        assert row["non_inferior"] is verdict
        assert row["difference_low"] < row["bound"] < row["difference"]


def test_for_lower_is_better_a_loss_is_a_rise():
    base = scores({(f"c{index}", 0): float(index) for index in range(10)}, "flow_acceleration")
    worse = base.assign(value=base["value"] + 1)
    (row,) = compare_models(base, worse, {"flow_acceleration": "lower"}, margins={"flow_acceleration": 0.5})
    assert row["non_inferior"] is False and row["bound"] == -1.0


def test_the_seed_decides_and_margins_are_checked():
    rng = np.random.default_rng(0)
    base = scores({(f"c{index}", 0): rng.normal() for index in range(20)})
    tuned = base.assign(value=base["value"] + rng.normal(size=20))
    first, again, other = (compare_models(base, tuned, {"sync_c": "higher"}, seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other
    with pytest.raises(PrefkitError, match="did you mean 'sync_c'"):
        compare_models(base, tuned, {"sync_c": "higher"}, margins={"sync_d": 1.0})
    with pytest.raises(PrefkitError, match="above 0"):
        compare_models(base, tuned, {"sync_c": "higher"}, margins={"sync_c": 0.0})


def test_scores_find_their_condition_and_seed():
    candidates = pd.DataFrame({"candidate_id": ["k", "l"], "condition_id": ["p", "p"], "seed": [0, 1]})
    rows = pd.DataFrame(
        {
            "candidate_id": ["k", "k", "l"],
            "metric": "sync_c",
            "metric_version": ["1", "2", "2"],
            "value": [1.0, 2.0, 3.0],
        }
    )
    joined = clip_scores(rows, candidates)
    assert joined.values.tolist() == [["p", 0, "sync_c", 2.0], ["p", 1, "sync_c", 3.0]]
