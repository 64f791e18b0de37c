"""Which questions are asked: within conditions, once, in canonical order, and never about broken clips."""

import pytest

from prefkit.comparisons import make_comparisons
from prefkit.errors import PrefkitError
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, SCORES
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
