"""The whole loop, small: every stage's real code, twice."""

import hashlib
import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from prefkit.errors import PrefkitError
from prefkit.loop.demo import run_loop
from prefkit.loop.evaluating import evaluate
from prefkit.loop.people import evaluate_by_people
from prefkit.loop.reporting import report
from prefkit.loop.rounds import open_round, round_history
from prefkit.loop.sizes import DEMO
from prefkit.loop.tuning import tune
from prefkit.media import write_clip
from prefkit.pairs import load_pairs
from prefkit.synthetic.judge import make_judge
from prefkit.synthetic.portrait import make_portrait
from prefkit.tables import CANDIDATES, CRITERIA, TABLES
from prefkit.votes.simulated import simulate_votes
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

SMALL = replace(
    DEMO, train=6, test=2, evaluate=3, candidates=3, comparisons=2, votes=2, annotators=3,
    training={**DEMO.training, "max_steps": 3, "draws": 2, "eval_steps": 3, "save_steps": 3, "logging_steps": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("loop") / "w"
    return root, run_loop(root, SMALL, seed=3)


def tables(root):
    """All rows of all tables, without times."""
    workspace = Workspace.open(root)
    found = {table.name: workspace.read(table) for table in TABLES}
    found["votes"] = VoteStore.in_workspace(workspace).votes().drop(columns=["created_at"])
    return {name: frame.sort_values(list(frame.columns[:3])).reset_index(drop=True) for name, frame in found.items()}


def files(root):
    return {
        path.relative_to(root): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(("votes.sqlite", "report"))
    }


def test_it_ends_with_a_report_that_says_what_it_is(finished):
    _, report = finished
    page = report.read_text()
    assert "simulated" in page and "synthetic" in page
    assert page.count("data:video/mp4;base64") >= 2
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_every_stage_left_its_rows(finished):
    root, _ = finished
    found = tables(root)
    assert {name: len(frame) for name, frame in found.items() if name not in ("scores", "strengths")} == {
        "conditions": 11,
        "candidates": 8 * 3 + 3 * 2,
        "comparisons": 16,
        "votes": 16 * 2 * 3,
    }
    assert set(found["votes"]["source"]) == {"simulated"}
    assert found["candidates"]["error"].isna().all()
    assert {"sync_c", "av_corr0", "dynamic_degree"} <= set(found["scores"].dropna(subset=["value"])["metric"])


def test_the_dataset_opens_and_names_its_source(finished):
    root, _ = finished
    pairs = load_pairs(root / "pairs")
    assert set(pairs["train"]["source"]) == {"simulated"}
    assert set(pairs["train"]["identity"]).isdisjoint(pairs["test"]["identity"])


def test_the_run_and_the_evaluation_are_on_record(finished):
    root, _ = finished
    run = json.loads((root / "runs/dpo/run.json").read_text())
    assert run["finished"] and run["counts"]["train_pairs"] > 0
    results = json.loads((root / "reports/evaluation-dpo.json").read_text())["results"]
    (sync,) = (row for row in results if row["metric"] == "true_lip_sync")
    assert sync["num_conditions"] == 3 and 0 <= sync["win_rate"] <= 1


def test_a_second_run_does_no_work_twice(finished):
    root, _ = finished
    before = files(root)
    run_loop(root, SMALL, seed=3)
    assert files(root) == before


def test_the_same_seed_gives_the_same_tables(finished, tmp_path):
    root, _ = finished
    again = tmp_path / "again"
    run_loop(again, SMALL, seed=3)
    first, second = tables(root), tables(again)
    for name in first:
        pd.testing.assert_frame_equal(first[name], second[name])
    for split in ("train", "test"):
        name = f"pairs/pairs/{split}.parquet"
        assert (root / name).read_bytes() == (again / name).read_bytes()


def test_people_judge_base_against_tuned_and_the_report_shows_it(finished, tmp_path):
    root = shutil.copytree(finished[0], tmp_path / "w")
    workspace = Workspace.open(root)
    opened = evaluate_by_people(workspace, "dpo", seed=3, target_votes=2)
    assert opened["comparisons"] == 3 and opened["results"] == []

    simulate_votes(workspace, make_judge(workspace), annotators=2, purpose="evaluate")
    counted = evaluate_by_people(workspace, "dpo", seed=3, target_votes=2)
    assert counted["comparisons"] == 3
    assert [row["metric"] for row in counted["results"]] == sorted(CRITERIA)
    assert all(row["num_conditions"] == 3 and row["sources"] == ["simulated"] for row in counted["results"])
    assert "dpo against the base, by votes" in report(workspace).read_text()


def test_the_tuned_model_samples_the_next_round(finished, tmp_path):
    root = shutil.copytree(finished[0], tmp_path / "w")
    workspace = Workspace.open(root)
    first = open_round(workspace, "dpo", per_condition=2, comparisons=1, target_votes=1, seed=3)
    assert (first["round"], first["clips"], first["comparisons"]) == (1, 16, 8)
    assert open_round(workspace, "dpo", per_condition=2, comparisons=1, target_votes=1, seed=3) == first | {"scored": 0}

    clips = workspace.read(CANDIDATES)
    of_round = clips[clips["round"] == 1]
    assert set(of_round["adapter_hash"]) == {first["adapter_hash"]}
    assert not set(of_round["seed"]) & set(clips.loc[clips["round"] == 0, "seed"])
    simulate_votes(workspace, make_judge(workspace), annotators=1, seed=3)
    history = round_history(workspace, VoteStore.in_workspace(workspace).votes())
    assert [(row["round"], row["model"], row["comparisons"]) for row in history] == [(0, "base", 16), (1, "dpo", 8)]
    assert history[1]["votes"] == 8 * 3 and "sync_d" in history[1]["means"]
    assert "<h2>Rounds</h2>" in report(workspace).read_text()


def test_both_models_are_measured_against_real_clips_as_sets(finished, tmp_path):
    root = shutil.copytree(finished[0], tmp_path / "w")
    workspace = Workspace.open(root)
    for seed in range(3):
        portrait = make_portrait(22_000_000 + seed, num_frames=25)
        write_clip(tmp_path / "real" / f"{seed}.mp4", portrait.frames, 25)
    found = evaluate(workspace, "dpo", seed=3, real=tmp_path / "real")
    rows = {(row["model"], row["metric"]): row for row in found["sets"]}
    for model in ("base", "tuned"):
        assert rows[model, "efid"]["value"] > 0 and rows[model, "efid"]["num_reference"] == 75
        assert rows[model, "fid"]["value"] is None and "--weights inception=PATH" in rows[model, "fid"]["error"]
    assert found["real"]["clips"] == 3 and evaluate(workspace, "dpo", seed=3) == found
    assert "Whole sets against real clips" in report(workspace).read_text()
    with pytest.raises(PrefkitError, match="expected at least 2 real clips"):
        evaluate(workspace, "dpo", seed=3, real=root / "tables")


@pytest.mark.parametrize("reference", ["adapter_off", "copy"])
def test_a_run_starts_where_another_ended(finished, tmp_path, reference):
    """With the fixed reference the policy is ahead of it from the first step; a moving one starts level."""
    root = shutil.copytree(finished[0], tmp_path / "w")
    workspace = Workspace.open(root)
    options = {**SMALL.training, "max_steps": 2, "eval_strategy": "no", "reference": reference}
    record = tune(workspace, "second", options, seed=4, start="dpo")
    first = json.loads((root / "runs/dpo/run.json").read_text())
    assert record["start"] == first["adapter_hash"] != record["adapter_hash"]
    margin = next(row["rewards/margins"] for row in record["history"] if "rewards/margins" in row)
    assert (abs(margin) < 1e-6) == (reference == "copy")


def test_training_looks_at_clips_on_the_way_and_weighs_the_mouth(finished, tmp_path):
    root = shutil.copytree(finished[0], tmp_path / "w")
    options = {**SMALL.training, "max_steps": 1, "sample_steps": 1, "sample_pairs": 1, "eval_strategy": "no"}
    record = tune(Workspace.open(root), "mouth", options, seed=4, regions={"mouth": 4.0})
    plain = json.loads((root / "runs/dpo/run.json").read_text())
    first = [next(row["errors/chosen"] for row in run["history"] if "errors/chosen" in row) for run in (record, plain)]
    assert record["weight_map"] == "mouth × 4" and first[0] != first[1]
    assert any("samples/sync_d" in row for row in record["history"])
    shown = Workspace.open(root / "runs/mouth/samples/step-000001")
    assert len(shown.rows(CANDIDATES)) == 1
    card = (root / "runs/mouth/adapter/README.md").read_text()
    assert "Not evaluated" in card and "simulated" in card
    assert "win rate" in (root / "runs/dpo/adapter/README.md").read_text()
