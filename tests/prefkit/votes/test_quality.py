import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prefkit.votes.quality import agreements, disagreements, nominal_alpha, per_annotator, working_hours


def votes(*rows):
    names = ["annotator", "comparison_id", "choice", "left", "repeat", "seconds"]
    frame = pd.DataFrame(rows, columns=names).assign(criterion="overall", source="human", flags=None)
    return frame.assign(created_at=pd.date_range("2026-01-01", periods=len(frame), freq="min", tz="UTC"))


@settings(max_examples=40, deadline=None)
@given(arrays(np.int64, st.tuples(st.integers(2, 8), st.just(4)), elements=st.integers(0, 4)))
def test_alpha_is_what_the_krippendorff_package_computes(counts):
    paired = counts[counts.sum(1) >= 2]
    if np.count_nonzero(paired.sum(0)) < 2:
        assert np.isnan(nominal_alpha(counts))
        return
    expected = krippendorff.alpha(value_counts=paired, level_of_measurement="nominal")
    assert nominal_alpha(counts) == pytest.approx(expected, abs=1e-12)


def test_agreement_has_an_interval_around_it():
    said = [(name, f"q{n}", "ab"[(n + (name == "eve" and n % 4 == 0)) % 2], "a", 0, 3.0)
            for n in range(40) for name in ("ann", "bob", "eve")]  # fmt: skip
    (found,) = agreements(votes(*said))
    assert found.questions == 40 and found.low < found.alpha < found.high < 1


def test_each_annotator_is_measured_by_gold_repeats_sides_and_time():
    said = votes(
        ("ann", "g1", "a", "a", 0, 9.0), ("ann", "q1", "b", "a", 0, 1.0), ("ann", "q1", "a", "a", 1, 9.0),
        ("ann", "q2", "skip", "a", 0, 9.0), ("bob", "g1", "b", "b", 0, 9.0), ("bob", "q1", "b", "b", 0, 9.0),
    )  # fmt: skip
    gold = pd.DataFrame({"comparison_id": ["g1"], "criterion": ["overall"], "choice": ["a"]})
    found = per_annotator(said, gold, clip_seconds={"q1": 2.0, "g1": 2.0}).set_index("annotator")
    assert found.loc["ann", ["gold", "consistency", "too_fast"]].tolist() == [1.0, 0.0, pytest.approx(1 / 3)]
    assert found.loc["bob", ["gold", "left_share", "too_fast"]].tolist() == [0.0, 1.0, 0.0]
    assert np.isnan(found.loc["bob", "consistency"])
    assert found.loc["ann", "left_share"] == pytest.approx(2 / 3)


def test_pauses_are_no_work():
    times = pd.to_datetime(["2026-01-01 10:00:00", "2026-01-01 10:01:00", "2026-01-01 12:00:00"], utc=True)
    assert working_hours(pd.DataFrame({"created_at": times, "seconds": [30.0, 5.0, 30.0]})) * 3600 == 30 + 60 + 30


def test_disagreements_are_those_without_a_majority_until_a_lead_settles_them():
    said = votes(("ann", "q1", "a", "a", 0, 1.0), ("bob", "q1", "b", "a", 0, 1.0),
                 ("ann", "q2", "a", "a", 0, 1.0), ("bob", "q2", "a", "a", 0, 1.0))  # fmt: skip
    nothing = pd.DataFrame({"comparison_id": [], "criterion": []})
    assert disagreements(said, nothing)[["comparison_id", "answers"]].values.tolist() == [["q1", "a 1, b 1"]]
    assert disagreements(said, pd.DataFrame({"comparison_id": ["q1"], "criterion": ["overall"]})).empty
