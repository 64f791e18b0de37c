"""Counting votes: order does not matter, a and b are alike, and nothing is lost silently."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.aggregation import aggregate_votes, krippendorff_alpha, standing_votes
from prefkit.errors import PrefkitError
from prefkit.tables import CHOICES, VOTES

MIRROR = {"a": "b", "b": "a"}
FIELDS = ("comparison", "annotator", "criterion", "choice", "source")


def frame(rows):
    """Votes from (comparison, annotator, criterion, choice, source), a second apart."""
    start = pd.Timestamp("2025-01-01", tz="UTC")
    full = [
        {
            "vote_id": f"v{index:03d}",
            "comparison_id": comparison,
            "annotator": annotator,
            "criterion": criterion,
            "repeat": 0,
            "choice": choice,
            "left": "a",
            "source": source,
            "supersedes": None,
            "created_at": start + pd.Timedelta(seconds=index),
        }
        for index, (comparison, annotator, criterion, choice, source) in enumerate(rows)
    ]
    return pd.DataFrame(full, columns=VOTES.schema.names)


def votes_of(*choices, source="human"):
    return frame([("c", f"n{index}", "overall", choice, source) for index, choice in enumerate(choices)])


many_votes = st.lists(
    st.tuples(
        st.sampled_from(["c1", "c2", "c3"]),
        st.sampled_from(["ann", "bo", "cy", "di"]),
        st.sampled_from(["overall", "expression"]),
        st.sampled_from(CHOICES),
        st.sampled_from(["human", "simulated"]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(many_votes, st.randoms())
def test_order_of_votes_does_not_matter(rows, random):
    votes = frame(rows)
    order = list(range(len(votes)))
    random.shuffle(order)
    pd.testing.assert_frame_equal(aggregate_votes(votes), aggregate_votes(votes.iloc[order]))


@settings(deadline=None, max_examples=60)
@given(many_votes)
def test_swapping_a_and_b_mirrors_the_result(rows):
    result = aggregate_votes(frame(rows))
    mirrored = aggregate_votes(frame([(c, n, k, MIRROR.get(choice, choice), s) for c, n, k, choice, s in rows]))
    assert (mirrored["num_a"] == result["num_b"]).all()
    np.testing.assert_allclose(mirrored["probability"], 1 - result["probability"])
    assert list(mirrored["verdict"].dropna()) == [
        MIRROR.get(verdict, verdict) for verdict in result["verdict"].dropna()
    ]
    np.testing.assert_array_equal(mirrored["agreement"], result["agreement"])


@settings(deadline=None, max_examples=60)
@given(many_votes)
def test_every_vote_is_counted_or_named_as_dropped(rows):
    votes = frame(rows)
    standing, dropped = standing_votes(votes)
    result = aggregate_votes(votes)
    assert len(standing) + sum(dropped.values()) == len(votes)
    assert result["num_votes"].sum() + result["num_skip"].sum() == len(standing)


@pytest.mark.parametrize(
    ("choices", "verdict", "probability"),
    [
        (["a", "a", "b"], "a", 2 / 3),
        (["b", "tie"], "b", 0.25),
        (["a", "tie", "tie"], "tie", 2 / 3),
        (["a", "b"], "tie", 0.5),
        (["both_bad", "a"], "both_bad", 1.0),
        (["both_bad", "a", "a"], "a", 1.0),
        (["skip", "b"], "b", 0.0),
    ],
)
def test_verdict_and_probability(choices, verdict, probability):
    row = aggregate_votes(votes_of(*choices)).iloc[0]
    assert row["verdict"] == verdict
    assert row["probability"] == pytest.approx(probability)


def test_a_question_that_everybody_skipped_has_no_probability():
    row = aggregate_votes(votes_of("skip", "skip")).iloc[0]
    assert (row["num_skip"], row["num_votes"]) == (2, 0)
    assert row[["probability", "tie_probability", "agreement", "verdict"]].isna().all()


def test_undone_and_superseded_votes_do_not_count():
    votes = votes_of("a", "b", None, "b")
    votes["supersedes"] = [None, None, "v000", "v001"]  # the third undoes the first
    standing, dropped = standing_votes(votes)
    assert list(standing["vote_id"]) == ["v003"]
    assert dropped == {"vote superseded or undone": 2, "undo": 1}


def test_repeats_and_earlier_answers_are_no_second_opinion():
    votes = frame([("c", "ann", "overall", choice, "human") for choice in ("a", "b", "a")])
    votes.loc[2, "repeat"] = 1
    standing, dropped = standing_votes(votes)
    assert list(standing["vote_id"]) == ["v001"]
    assert dropped == {"repeat asked for self-consistency": 1, "earlier answer of the same annotator": 1}


def test_a_vote_sent_twice_counts_once_and_a_contradiction_is_refused():
    votes = votes_of("a", "b")
    standing, dropped = standing_votes(pd.concat([votes, votes]))
    assert (len(standing), dropped) == (2, {"vote sent twice": 2})
    with pytest.raises(PrefkitError, match="v000 is there twice"):
        aggregate_votes(pd.concat([votes, votes.assign(choice="b")]))


def test_an_unknown_choice_is_refused():
    with pytest.raises(PrefkitError, match="'left'"):
        aggregate_votes(votes_of("left"))


def test_sources_are_named_together():
    votes = pd.concat([votes_of("a", source="simulated"), votes_of("b").assign(vote_id="w", annotator="w")])
    assert aggregate_votes(votes)["source"].tolist() == ["human+simulated"]


def test_alpha_of_worked_examples():
    perfect = frame([(c, n, "overall", choice, "human") for c, choice in (("1", "a"), ("2", "b")) for n in "xyz"])
    assert krippendorff_alpha(aggregate_votes(perfect)) == pytest.approx(1.0)
    # Two raters over two units who always differ: observed disagreement 1, expected 2 · 2 · 2 / (4 · 3) = 2/3.
    opposed = frame([(c, n, "overall", n, "human") for c in "12" for n in "ab"])
    assert krippendorff_alpha(aggregate_votes(opposed)) == pytest.approx(-0.5)
    assert krippendorff_alpha(aggregate_votes(votes_of("a", "a"))) is None


# --- the method bradley-terry; what the model itself does is in aggregation/ --------------------------

CLIPS = {"c1": ("p", "q"), "c2": ("p", "r"), "c3": ("q", "r")}
COMPARISONS = pd.DataFrame(
    [{"comparison_id": name, "condition_id": "x", "candidate_a": a, "candidate_b": b} for name, (a, b) in CLIPS.items()]
)


def by_model(votes, **options):
    options = {"resamples": 20, "allow_mixed_sources": True} | options
    return aggregate_votes(votes, method="bradley-terry", comparisons=COMPARISONS, **options)


@settings(deadline=None, max_examples=25)
@given(many_votes, st.randoms())
def test_any_order_and_partition_gives_the_same_to_the_last_bit(rows, random):
    votes = frame(rows)
    order = list(range(len(votes)))
    random.shuffle(order)
    cut = random.randrange(len(order) + 1)
    parts = pd.concat([votes.iloc[order[:cut]], votes.iloc[order[cut:]]])
    asked = COMPARISONS.sample(frac=1, random_state=cut)
    again = aggregate_votes(parts, method="bradley-terry", comparisons=asked, resamples=20, allow_mixed_sources=True)
    pd.testing.assert_frame_equal(by_model(votes), again, check_exact=True)


@settings(deadline=None, max_examples=25)
@given(many_votes)
def test_the_model_changes_probabilities_and_nothing_else(rows):
    votes = frame(rows)
    counted, modelled = aggregate_votes(votes), by_model(votes)
    fitted = ["probability", "tie_probability", "margin", "low", "high"]
    pd.testing.assert_frame_equal(counted.drop(columns=fitted), modelled.drop(columns=fitted))
    assert (counted["probability"].isna() == modelled["probability"].isna()).all()
    known = modelled.dropna(subset=["probability"])
    assert known["probability"].between(0, 1, inclusive="neither").all()
    np.testing.assert_allclose(known["margin"], (2 * known["probability"] - 1).abs())
    bounded = known.dropna(subset=["low"])
    assert (bounded["low"] <= bounded["probability"]).all() and (bounded["probability"] <= bounded["high"]).all()


def test_a_vote_on_one_comparison_speaks_for_the_others():
    votes = frame([("c1", "ann", "overall", "a", "human"), ("c3", "ann", "overall", "a", "human"),
                   ("c2", "ann", "overall", "skip", "human"), ("c2", "bo", "overall", "tie", "human")])  # fmt: skip
    found = by_model(votes).set_index("comparison_id")
    assert (found["probability"] > 0.5).all()  # p beats q beats r, though p and r were called a tie


def test_mixing_sources_has_to_be_asked_for():
    votes = pd.concat([votes_of("a", source="simulated"), votes_of("b").assign(vote_id="w", annotator="w")])
    votes["comparison_id"] = "c1"
    with pytest.raises(PrefkitError, match="human and simulated votes; these never mix unless asked"):
        by_model(votes, allow_mixed_sources=False)
    assert by_model(votes)["source"].tolist() == ["human+simulated"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "bradley-tery"}, "did you mean 'bradley-terry'"),
        ({"method": "bradley-terry"}, "give the comparisons"),
        ({"method": "bradley-terry", "comparisons": COMPARISONS}, "1 unknown comparisons, the first is c;"),
        ({"method": "bradley-terry", "comparisons": COMPARISONS, "resamples": 1}, "at least 2"),
        ({"method": "bradley-terry", "comparisons": COMPARISONS, "confidence": 95}, "between 0 and 1"),
        ({"method": "bradley-terry", "comparisons": COMPARISONS, "prior": 0.0}, "above 0"),
    ],
)
def test_mistakes_are_one_sentence(options, sentence):
    with pytest.raises(PrefkitError, match=sentence):
        aggregate_votes(votes_of("a", "b"), **options)


def test_a_clip_of_two_conditions_is_refused():
    wrong = COMPARISONS.assign(condition_id=["x", "x", "y"])
    votes = frame([(name, "ann", "overall", "a", "human") for name in CLIPS])
    with pytest.raises(PrefkitError, match="comparisons of two conditions"):
        aggregate_votes(votes, method="bradley-terry", comparisons=wrong)
