"""People's votes on base against tuned: who won, whichever clip is a and whoever voted often."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.human_evaluation import human_win_rates

COMPARISONS = pd.DataFrame(
    [
        {"comparison_id": "q0", "condition_id": "p", "candidate_a": "base-0", "candidate_b": "tuned-0"},
        {"comparison_id": "q1", "condition_id": "q", "candidate_a": "tuned-1", "candidate_b": "base-1"},
        {"comparison_id": "q2", "condition_id": "q", "candidate_a": "base-2", "candidate_b": "tuned-2"},
    ]
)
TUNED = ["tuned-0", "tuned-1", "tuned-2"]
FEW = {"resamples": 300}


def votes(*answers):
    """Rows from (comparison, annotator, choice)."""
    rows = [
        {
            "vote_id": f"{question}-{who}", "comparison_id": question, "annotator": who, "criterion": "overall",
            "repeat": 0, "choice": choice, "left": "a", "source": "human", "supersedes": None,
            "created_at": pd.Timestamp("2026-01-01", tz="UTC"),
        }
        for question, who, choice in answers
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_and_b_are_turned_to_base_and_tuned():
    (row,) = human_win_rates(votes(("q0", "ann", "b"), ("q1", "ann", "a"), ("q2", "ann", "b")), COMPARISONS, TUNED)
    assert (row["win_rate"], row["wins"], row["losses"], row["num_conditions"]) == (1, 3, 0, 2)
    assert row["win_rate_low"] < 1  # two conditions are not certainty
    assert (row["num_votes"], row["num_annotators"], row["sources"]) == (3, 1, ["human"])


def test_a_condition_with_many_votes_weighs_as_one_with_few():
    many = [("q0", f"ann{number}", "b") for number in range(9)]
    (row,) = human_win_rates(votes(*many, ("q1", "ann0", "b"), ("q2", "ann0", "a")), COMPARISONS, TUNED, **FEW)
    assert row["win_rate"] == 0.5


def test_skips_and_other_questions_do_not_count_and_both_bad_prefers_neither():
    cast = votes(("q0", "ann", "both_bad"), ("q1", "ann", "skip"), ("elsewhere", "ann", "b"))
    (row,) = human_win_rates(cast, COMPARISONS, TUNED)
    assert (row["win_rate"], row["num_pairs"], row["num_missing"]) == (0.5, 1, 2)
    assert row["win_rate_low"] is None and "two conditions" in row["reason"]


def test_nobody_voted():
    assert human_win_rates(votes(("elsewhere", "ann", "b")), COMPARISONS, TUNED) == []


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abt"), st.sampled_from("abt"), st.sampled_from("abt")), min_size=1))
def test_naming_the_base_the_tuned_model_mirrors_the_rate(ballots):
    words = {"a": "a", "b": "b", "t": "tie"}
    cast = votes(*((f"q{i}", f"ann{n}", words[c]) for n, ballot in enumerate(ballots) for i, c in enumerate(ballot)))
    (row,) = human_win_rates(cast, COMPARISONS, TUNED, **FEW)
    (swapped,) = human_win_rates(cast, COMPARISONS, ["base-0", "base-1", "base-2"], **FEW)
    assert swapped["win_rate"] == pytest.approx(1 - row["win_rate"])
    assert (swapped["wins"], swapped["losses"]) == (row["losses"], row["wins"])
