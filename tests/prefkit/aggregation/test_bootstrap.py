"""Intervals hold the truth as often as they say, and say when they cannot know."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from prefkit.aggregation import aggregate_votes, bootstrap
from prefkit.aggregation.davidson import probability_better
from prefkit.aggregation.model import fit_votes
from prefkit.synthetic.ballots import draw_ballots


def covered(seed, annotators):
    drawn = draw_ballots(conditions=1, clips=5, num_votes=10 * annotators, annotators=annotators, seed=seed)
    found = fit_votes(drawn.votes, drawn.comparisons, resamples=100, seed=seed).questions
    asked = drawn.comparisons.set_index("comparison_id").loc[found["comparison_id"]]
    advantage = drawn.strengths[asked["candidate_a"]].to_numpy() - drawn.strengths[asked["candidate_b"]].to_numpy()
    truth = probability_better(advantage, 0.5)
    return ((found["low"] <= truth) & (truth <= found["high"])).mean()


@pytest.mark.parametrize(("annotators", "least", "most"), [(5, 0.9, 1.0), (30, 0.9, 0.99)])
def test_intervals_cover(annotators, least, most):
    """All figures over 1,000 repetitions are in benchmarks/results/aggregation.md."""
    assert least <= np.mean([covered(seed, annotators) for seed in range(60)]) <= most


def test_more_confidence_is_wider_and_the_seed_decides():
    drawn = draw_ballots(conditions=4, clips=4, num_votes=192, annotators=8, seed=1)

    def intervals(**options):
        found = fit_votes(drawn.votes, drawn.comparisons, resamples=50, **options).questions
        return found[["low", "high"]].to_numpy()

    low, high = intervals(confidence=0.8).T
    lower, higher = intervals(confidence=0.99).T
    assert (lower < low).all() and (high < higher).all()
    np.testing.assert_array_equal(intervals(seed=3), intervals(seed=3))
    assert (intervals(seed=3) != intervals(seed=4)).any()


def test_annotators_who_agree_on_everything_leave_doubt():
    """Resampling them sees no variation: the votes' own number is what is left."""
    drawn = draw_ballots(conditions=1, clips=2, num_votes=6, annotators=6, seed=0)
    row = fit_votes(drawn.votes.assign(choice="a"), drawn.comparisons).questions.iloc[0]
    assert row["low"] < 0.7 < row["probability"] < row["high"]


def test_annotators_of_one_mind_each_say_less_than_their_votes():
    """Two camps who always disagree: the votes are many, the opinions are few."""
    drawn = draw_ballots(conditions=1, clips=4, num_votes=6 * 10, annotators=10, seed=0)
    camps = drawn.votes.assign(choice=np.where(drawn.votes["annotator"] < "annotator-0006", "a", "b"))
    mixed = drawn.votes.assign(choice=np.where(np.arange(60) % 10 < 6, "a", "b"))

    def width(votes):
        found = fit_votes(votes, drawn.comparisons).strengths
        return (found["high"] - found["low"]).mean()

    assert width(camps) > 1.5 * width(mixed)


def test_one_annotator_alone_has_no_interval():
    drawn = draw_ballots(conditions=2, clips=3, num_votes=30, annotators=10, seed=0)
    first = drawn.comparisons["condition_id"] == "condition-000000"
    alone = drawn.votes["comparison_id"].isin(drawn.comparisons.loc[first, "comparison_id"])
    votes = pd.concat(
        [drawn.votes[~alone], drawn.votes[alone].drop_duplicates("comparison_id").assign(annotator="ann")]
    )
    result = aggregate_votes(votes, method="bradley-terry", comparisons=drawn.comparisons)
    of_one = result["comparison_id"].isin(drawn.comparisons.loc[first, "comparison_id"])
    assert result.loc[of_one, ["low", "high"]].isna().all(axis=None)
    assert result.loc[~of_one, ["low", "high"]].notna().all(axis=None)
    assert result["probability"].notna().all()


def test_no_resamples_no_intervals():
    drawn = draw_ballots(conditions=1, clips=3, num_votes=30, seed=0)
    found = fit_votes(drawn.votes, drawn.comparisons, resamples=0)
    assert found.questions[["low", "high"]].isna().all(axis=None)
    assert found.strengths[["low", "high"]].isna().all(axis=None)


def test_the_bootstrap_is_that_of_refitting(monkeypatch):
    """A condition's standard error is that of fits to votes of drawn annotators, one fit at a time."""
    drawn = draw_ballots(conditions=1, clips=3, num_votes=300, annotators=100, reliability_spread=0.0, tie=0.0, seed=2)
    votes = drawn.votes.assign(left=None)
    rng = np.random.default_rng(0)
    people = votes["annotator"].unique()
    spans = []
    for _ in range(80):
        chosen = pd.DataFrame({"annotator": rng.choice(people, len(people)), "copy": np.arange(len(people))})
        again = chosen.merge(votes, on="annotator")
        again["annotator"] = again["annotator"] + again["copy"].astype(str)
        again["vote_id"] = again["vote_id"] + again["annotator"]
        spans.append(fit_votes(again, drawn.comparisons, resamples=0).strengths["strength"].to_numpy())
    monkeypatch.setattr(bootstrap.stats.norm, "ppf", lambda _: 0.0)  # leave the votes' own information out
    found = fit_votes(votes, drawn.comparisons, resamples=400).strengths
    factor = stats.t.ppf(0.975, 99) * np.sqrt(100 / 99)
    np.testing.assert_allclose((found["high"] - found["strength"]) / factor, np.std(spans, axis=0), rtol=0.3)
