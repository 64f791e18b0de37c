import pandas as pd
import pytest

from prefkit.errors import PrefkitError
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS
from prefkit.votes.export import export_votes
from prefkit.votes.simulated import simulate_votes
from prefkit.votes.statistics import vote_statistics
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

PAIRS = 150


def judge(candidate, condition):
    assert candidate["condition_id"] == condition["condition_id"]
    quality = float(candidate["seed"])
    return {"motion_video_alignment": quality, "expression": -quality, "overall": None}


@pytest.fixture
def make(tmp_path):
    def workspace(name, pairs=PAIRS, target=2):
        made = Workspace.create(tmp_path / name)
        made.append(CONDITIONS, [{"condition_id": "c"}])
        made.append(
            CANDIDATES,
            [{"candidate_id": f"{n:03d}{side}", "condition_id": "c", "seed": n * 2 + (side == "b")}
             for n in range(pairs) for side in "ab"],
        )  # fmt: skip
        made.append(
            COMPARISONS,
            [{"comparison_id": f"q{n:03d}", "condition_id": "c", "candidate_a": f"{n:03d}a", "candidate_b": f"{n:03d}b",
              "purpose": "train", "target_votes": target} for n in range(pairs)],
        )  # fmt: skip
        return made

    return workspace


def votes_of(workspace):
    return VoteStore.in_workspace(workspace, create=False).votes()


def without_time(votes):
    return votes.drop(columns="created_at").sort_values("vote_id", ignore_index=True)


def test_the_same_seed_gives_the_same_votes_and_a_rerun_adds_none(make):
    first, second = make("first"), make("second")
    done = simulate_votes(first, judge, annotators=3, error_rate=0.2, seed=5)
    assert done.votes == PAIRS * 2 * 3 and done.skipped == PAIRS * 2
    again = simulate_votes(first, judge, annotators=3, error_rate=0.2, seed=5)
    assert (again.votes, again.skipped) == (0, 0)
    simulate_votes(second, judge, annotators=3, error_rate=0.2, seed=5)
    pd.testing.assert_frame_equal(without_time(votes_of(first)), without_time(votes_of(second)))
    assert set(votes_of(first)["source"]) == {"simulated"}


def test_without_errors_they_say_what_the_judge_says(make):
    workspace = make("exact", pairs=20)
    simulate_votes(workspace, judge, error_rate=0.0)
    choices = votes_of(workspace).groupby("criterion")["choice"].agg(set).to_dict()
    assert choices == {"motion_video_alignment": {"b"}, "expression": {"a"}, "overall": {"skip"}}
    reasons = votes_of(workspace)["skip_reason"].dropna()
    assert len(reasons) == 40 and reasons.str.contains("could not judge overall").all()


def test_differences_within_the_margin_are_ties(make):
    workspace = make("ties", pairs=20)
    simulate_votes(workspace, judge, error_rate=0.0, tie_margin={"expression": 1.0})
    choices = votes_of(workspace).groupby("criterion")["choice"].agg(set).to_dict()
    assert choices["expression"] == {"tie"} and choices["motion_video_alignment"] == {"b"}


def test_errors_and_left_bias_have_the_asked_rates(make):
    workspace = make("rates")
    simulate_votes(workspace, judge, annotators=2, error_rate=0.2, seed=1)
    votes = votes_of(workspace).query("criterion == 'expression'")
    wrong = (votes["choice"] == "b").mean()
    assert 0.12 < wrong < 0.28  # 300 votes at a mean rate of 0.2, spread between annotators
    biased = make("biased")
    simulate_votes(biased, judge, annotators=2, error_rate=0.0, left_bias=0.4, seed=1)
    decided = vote_statistics(votes_of(biased)).query("criterion != 'overall'")
    assert decided["left_share"].between(0.55, 0.85).all()
    unbiased = vote_statistics(votes_of(workspace)).query("criterion != 'overall'")
    assert unbiased["left_share"].between(0.38, 0.62).all()


def test_votes_stop_at_the_target_and_never_exceed_the_crowd(make):
    workspace = make("targets", pairs=10, target=5)
    simulate_votes(workspace, judge, annotators=3)
    assert len(votes_of(workspace)) == 10 * 3 * 3


def test_mistakes_are_one_sentence(make):
    with pytest.raises(PrefkitError, match="no comparisons for evaluate.*prefkit compare"):
        simulate_votes(make("none"), judge, purpose="evaluate")
    with pytest.raises(PrefkitError, match="error rate is 0.9"):
        simulate_votes(make("rate"), judge, error_rate=0.9)


def test_export_holds_the_live_votes(make, tmp_path):
    workspace = make("export", pairs=5)
    with pytest.raises(PrefkitError, match="no votes were cast"):
        export_votes(workspace, tmp_path / "votes.parquet")
    simulate_votes(workspace, judge)
    VoteStore.in_workspace(workspace).undo(votes_of(workspace)["vote_id"].iloc[0])
    assert export_votes(workspace, tmp_path / "votes.parquet") == 5 * 2 * 3 - 1
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "votes.parquet"), votes_of(workspace))
    assert export_votes(workspace, tmp_path / "votes.csv") == 29
    with pytest.raises(PrefkitError, match="parquet or .csv"):
        export_votes(workspace, tmp_path / "votes.txt")
