"""Which questions are asked: within conditions, once, in canonical order, and never about broken clips."""

import pandas as pd
import pytest

from prefkit.comparisons import comparison_id, make_comparisons
from prefkit.errors import PrefkitError
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, SCORES, VOTES
from prefkit.workspace import Workspace


def candidate(condition, index, **columns):
    name = f"{condition}-{index}"
    row = {"candidate_id": name, "condition_id": condition, "generator": "tiny", "seed": index, "round": 0}
    return row | {"clip": f"clips/{name}.mp4"} | columns


def score(candidate_id, metric, value):
    return {"candidate_id": candidate_id, "metric": metric, "metric_version": "1", "value": value}


@pytest.fixture
def workspace(tmp_path):
    """Three conditions with four candidates each; the third is for tests."""
    workspace = Workspace.create(tmp_path / "w")
    splits = {"x": "train", "y": "train", "z": "test"}
    workspace.append(CONDITIONS, [{"condition_id": name, "split": split} for name, split in splits.items()])
    workspace.append(CANDIDATES, [candidate(condition, index) for condition in splits for index in range(4)])
    return workspace


def test_all_pairs_within_conditions_in_canonical_order(workspace):
    assert make_comparisons(workspace) == {"made": 18, "already_there": 0, "conditions": 3, "dropped": {}}
    rows = workspace.read(COMPARISONS)
    assert (rows["candidate_a"] < rows["candidate_b"]).all()
    same = [
        a.split("-")[0] == b.split("-")[0] == c
        for a, b, c in rows[["candidate_a", "candidate_b", "condition_id"]].values
    ]
    assert all(same)
    assert not rows[["candidate_a", "candidate_b"]].duplicated().any()


def test_again_makes_nothing_and_new_candidates_make_the_rest(workspace):
    make_comparisons(workspace, per_condition=2)
    before = workspace.read(COMPARISONS)
    assert make_comparisons(workspace, per_condition=2, seed=7)["made"] == 0
    assert workspace.read(COMPARISONS).equals(before)
    workspace.append(CANDIDATES, [candidate("x", 4)])
    assert make_comparisons(workspace, per_condition=3)["made"] == 3
    assert make_comparisons(workspace)["made"] == 22 - 9


def test_the_seed_decides_and_a_condition_does_not_depend_on_others(workspace, tmp_path):
    make_comparisons(workspace, per_condition=2, seed=3)
    alone = Workspace.create(tmp_path / "alone")
    alone.append(CONDITIONS, [{"condition_id": "y"}])
    alone.append(CANDIDATES, [candidate("y", index) for index in (3, 1, 0, 2)])
    make_comparisons(alone, per_condition=2, seed=3)
    ids = workspace.read(COMPARISONS).query("condition_id == 'y'")["comparison_id"]
    assert set(ids) == set(alone.read(COMPARISONS)["comparison_id"])


def test_clips_that_failed_or_are_broken_are_left_out_and_counted(workspace):
    failed = candidate("x", 0, clip=None, error="out of memory")
    workspace.append(CANDIDATES, [failed, candidate("x", 3, clip=None, error="out of memory")])
    workspace.append(SCORES, [score("y-1", "freeze_ratio", 1.0), score("y-2", "freeze_ratio", 0.9)])
    workspace.append(SCORES, [score(f"z-{index}", "silent_ratio", 1.0) for index in range(3)])
    summary = make_comparisons(workspace)
    assert summary["made"] == 1 + 3
    assert summary["dropped"] == {
        "candidate without a clip": 2,
        "candidate with freeze_ratio 1": 1,
        "candidate with silent_ratio 1": 3,
        "condition with fewer than two usable candidates": 1,
    }


def test_metric_close_asks_the_closest_first_and_unscored_last(workspace):
    values = {"x-0": 0.0, "x-1": 5.0, "x-2": 5.5}
    workspace.append(SCORES, [score(name, "sync_c", value) for name, value in values.items()])
    make_comparisons(workspace, per_condition=2, strategy="metric-close", metric="sync_c", split="train")
    rows = workspace.read(COMPARISONS).query("condition_id == 'x'")
    assert list(zip(rows["candidate_a"], rows["candidate_b"], strict=True)) == [("x-1", "x-2"), ("x-0", "x-1")]


def test_evaluate_pairs_the_tuned_model_with_its_base_by_seed(workspace):
    workspace.append(CANDIDATES, [candidate("z", f"tuned{seed}", seed=seed, adapter_hash="abc") for seed in (0, 1)])
    workspace.append(CANDIDATES, [candidate("z", "other", seed=0, weights_hash="another base")])
    assert make_comparisons(workspace, purpose="evaluate", split="test")["made"] == 2
    rows = workspace.read(COMPARISONS)
    assert set(zip(rows["candidate_a"], rows["candidate_b"], strict=True)) == {("z-0", "z-tuned0"), ("z-1", "z-tuned1")}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"purpose": "trian"}, "did you mean 'train'"),
        ({"strategy": "closest"}, "random"),
        ({"strategy": "metric-close"}, "run 'prefkit score'"),
        ({"split": "val"}, "no condition has the split 'val'"),
        ({"per_condition": 0}, "at least 1"),
        ({"target_votes": 0}, "at least 1"),
        ({"stop_margin": 0}, "stopping margin must be at least 1"),
        ({"metric": "sync_c"}, "random does not look at one metric"),
        ({"strategy": "metric-disagreement"}, "run 'prefkit score'"),
        ({"strategy": "active", "metric": "sync_c"}, "run 'prefkit score'"),
        ({"round": 3}, "no candidate of this round"),
        ({"purpose": "evaluate"}, "the tuned model"),
    ],
)
def test_mistakes_are_one_sentence_and_change_nothing(workspace, options, sentence):
    with pytest.raises(PrefkitError, match=sentence):
        make_comparisons(workspace, **options)
    assert workspace.read(COMPARISONS).empty


def test_an_empty_workspace_says_what_to_do(tmp_path):
    with pytest.raises(PrefkitError, match="prefkit sample"):
        make_comparisons(Workspace.create(tmp_path / "w"))


def pairs_of(workspace, condition):
    rows = workspace.read(COMPARISONS).query("condition_id == @condition")
    return list(zip(rows["candidate_a"], rows["candidate_b"], strict=True))


def vote(workspace, a, b, choice, count):
    """Votes of `count` annotators on the training comparison of two clips."""
    return [
        {"vote_id": f"{a}-{b}-{number}", "comparison_id": comparison_id(a, b, "train"),
         "annotator": f"annotator-{number}", "criterion": "overall", "repeat": 0, "choice": choice, "left": "a",
         "source": "human", "created_at": pd.Timestamp("2025-01-01", tz="UTC")}
        for number in range(count)
    ]  # fmt: skip


def test_metric_disagreement_asks_where_metrics_prefer_different_clips(workspace):
    values = {"x-0": (0, 0), "x-1": (1, 1), "x-2": (3, -3), "x-3": (2, 2)}
    for name, (sync, rest) in values.items():
        # of sync_d lower is better, so that the two agree where one rises and the other falls
        workspace.append(SCORES, [score(name, "sync_c", float(sync)), score(name, "sync_d", float(-rest))])
    make_comparisons(workspace, per_condition=3, strategy="metric-disagreement", split="train")
    assert all("x-2" in pair for pair in pairs_of(workspace, "x"))
    assert set(workspace.read(COMPARISONS)["reason"]) == {"metric-disagreement"}


def test_one_metric_cannot_disagree(workspace):
    workspace.append(SCORES, [score("x-0", "sync_c", 1.0), score("x-1", "sync_c", 2.0)])
    with pytest.raises(PrefkitError, match="two metrics that say which way is better, found 1"):
        make_comparisons(workspace, strategy="metric-disagreement")


def test_active_asks_about_what_the_votes_leave_open(workspace):
    """x-0 beats all and x-1 the last two, whose order nobody was asked about."""
    settled = [("x-0", "x-1"), ("x-0", "x-2"), ("x-0", "x-3"), ("x-1", "x-2")]
    workspace.append(
        COMPARISONS,
        [
            {"comparison_id": comparison_id(a, b, "train"), "condition_id": "x", "candidate_a": a, "candidate_b": b,
             "purpose": "train", "reason": "random", "round": 0, "target_votes": 5}
            for a, b in settled
        ],
    )  # fmt: skip
    votes = pd.DataFrame([row for a, b in settled for row in vote(workspace, a, b, "a", 5)], columns=VOTES.schema.names)
    options = {"strategy": "active", "stop_margin": 2, "target_votes": 7}
    make_comparisons(workspace, per_condition=5, votes=votes, split="train", **options)
    rows = workspace.read(COMPARISONS)
    assert pairs_of(workspace, "x")[4:] == [("x-2", "x-3")]
    new = rows[rows["reason"] == "active"]
    assert set(new["stop_margin"]) == {2} and set(new["target_votes"]) == {7}


def test_active_spreads_first_questions_over_all_clips(workspace):
    make_comparisons(workspace, per_condition=2, strategy="active")
    for condition in ("x", "y", "z"):
        (a, b), (c, d) = pairs_of(workspace, condition)
        assert len({a, b, c, d}) == 4


def test_active_starts_from_scores(workspace):
    """Clips that a metric finds far apart need no vote yet."""
    values = {"x-0": 0.0, "x-1": 0.1, "x-2": 50.0, "x-3": 50.1}
    workspace.append(SCORES, [score(name, "sync_c", value) for name, value in values.items()])
    make_comparisons(workspace, per_condition=2, strategy="active", metric="sync_c", split="train")
    assert set(pairs_of(workspace, "x")) == {("x-0", "x-1"), ("x-2", "x-3")}
