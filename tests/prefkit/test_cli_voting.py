"""compare, votes plan and votes aggregate, from the command line."""

import pytest
from typer.testing import CliRunner

from prefkit.cli import app
from prefkit.errors import PrefkitError
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, CRITERIA, STRENGTHS
from prefkit.votes.simulated import simulate_votes
from prefkit.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    workspace.append(CONDITIONS, [{"condition_id": name, "split": "train"} for name in "xy"])
    clips = [{"candidate_id": f"{name}-{place}", "condition_id": name, "clip": "c.mp4", "round": 0, "seed": place}
             for name in "xy" for place in range(4)]  # fmt: skip
    workspace.append(CANDIDATES, clips)
    return workspace


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_ask_plan_vote_aggregate_and_ask_again(workspace):
    with pytest.raises(PrefkitError, match="prefkit compare"):
        run("votes", "plan", workspace.root)
    run("compare", workspace.root, "--per-condition", 3, "--votes", 5, "--stop-margin", 2)
    asked = workspace.read(COMPARISONS)
    assert set(asked["stop_margin"]) == {2} and set(asked["target_votes"]) == {5}

    before = run("votes", "plan", workspace.root, "--confidence", 0.94)
    assert before.count("0 votes on 6 comparisons") == len(CRITERIA)
    assert "stop at a lead of 2 (--stop-margin), 2.9 votes a comparison; or 5 each" in before

    simulate_votes(
        workspace, lambda candidate, _: dict.fromkeys(CRITERIA, float(candidate["candidate_id"][-1])),
        annotators=5, error_rate=0.1, left_bias=0.0, tie_margin=0.1, seed=0,
    )  # fmt: skip
    after = run("votes", "plan", workspace.root, "--confidence", 0.94)
    assert "0 votes on" not in after and "reached by" in after

    shown = run("votes", "aggregate", workspace.root)
    assert "reliability" in shown and "simulated-0-0" in shown
    strengths = workspace.read(STRENGTHS)
    assert set(strengths["criterion"]) == set(CRITERIA) and set(strengths["source"]) == {"simulated"}

    run("compare", workspace.root, "--per-condition", 4, "--strategy", "active")
    assert workspace.read(COMPARISONS)["reason"].tolist()[6:] == ["active", "active"]


def test_without_votes_there_is_nothing_to_aggregate(workspace):
    run("compare", workspace.root)
    with pytest.raises(PrefkitError, match="compares clips for train"):
        run("votes", "aggregate", workspace.root)
