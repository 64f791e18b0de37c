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
