"""The commands around pairs: what they print, and mistakes as one sentence."""

import csv

import pytest
from typer.testing import CliRunner

import prefkit.cli
from prefkit.errors import PrefkitError
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace


def run(*arguments):
    result = CliRunner().invoke(prefkit.cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture
def voted(small, cast):
    store = VoteStore.in_workspace(small)
    votes = cast(small, ("a", "a", "b"))
    votes = votes[votes["annotator"] != "annotator 2"]
    store.record(votes.astype(object).where(votes.notna(), None).to_dict("records"))
    store.register("careless", "human")
    store.exclude("careless", "failed the known questions")
    store.register("gone", "human")
    store.withdraw("gone")
    store.close()
    return small


def test_a_dry_run_prints_the_funnel_with_a_reason_for_each_drop(voted):
    said = run("build-pairs", voted.root, "--dry-run", "--max-per-identity", 1, "--min-votes", 2)
    assert "votes: 8" in said and "questions: 4" in said and "Dry run: 3 train, 1 test" in said
    assert not voted.path("pairs").exists()
    voted.path("clips/c2q.mp4").unlink()
    assert "−1 clip file missing" in run("build-pairs", voted.root, "--dry-run")


def test_build_and_publish(voted, tmp_path):
    said = run("build-pairs", voted.root, "--pick-a-pic", "--weights", "margin")
    assert "Dataset:" in said and list(voted.path("pairs/pick-a-pic").glob("*.parquet"))
    card = voted.path("pairs/README.md").read_text()
    assert "1 annotator excluded: failed the known questions" in card
    assert "1 annotator excluded: consent withdrawn, votes removed" in card
    assert "Release:" in run("publish", voted.path("pairs"), "--output", tmp_path / "release")
    assert (tmp_path / "release" / "pairs" / "train.parquet").exists()


def test_mistakes_are_one_sentence(voted, tmp_path):
    for arguments, sentence in [
        (["build-pairs", voted.root, "--weight", "overall"], "expected CRITERION=WEIGHT"),
        (["build-pairs", voted.root, "--combine", "al"], "did you mean 'all'"),
        (["build-pairs", voted.root, "--metric", "sync_c"], "no clip has a score of 'sync_c'"),
        (["build-pairs", voted.root, "--metric", "sync_offset"], "sync_offset"),
        (["publish", voted.path("pairs")], "nothing to do"),
        (["publish", voted.root, "--output", tmp_path / "release"], "is no preference dataset"),
        (["import", voted.root, tmp_path / "x.csv", "--format", "vots"], "did you mean 'votes'"),
        (["import", voted.root, tmp_path / "x.csv", "--format", "votes"], "there is no file"),
        (["import", voted.root, tmp_path / "x.csv", "--format", "votes", "--fps", "25"], "leave --fps out"),
    ]:
        with pytest.raises(PrefkitError, match=sentence) as caught:
            run(*arguments)
        assert "\n" not in str(caught.value)
    assert not voted.path("pairs").exists() and not (tmp_path / "release").exists()


def test_importing_votes_prints_what_came_and_what_was_dropped(voted, tmp_path):
    with (tmp_path / "votes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [
                ["left", "right", "choice", "annotator"],
                [voted.path("clips/c0p.mp4"), voted.path("clips/c0q.mp4"), "left", "ann"],
                ["gone.mp4", voted.path("clips/c0q.mp4"), "left", "ann"],
            ]
        )
    Workspace.create(tmp_path / "other")
    said = run("import", tmp_path / "other", tmp_path / "votes.csv", "--format", "votes")
    assert "import: votes 1" in said and "1 × clip file missing" in said
