"""The table of strengths follows the votes."""

import pandas as pd
import pytest

from prefkit.errors import PrefkitError
from prefkit.strengths import write_strengths
from prefkit.synthetic.ballots import draw_ballots
from prefkit.tables import COMPARISONS, STRENGTHS
from prefkit.workspace import Workspace


@pytest.fixture
def voted(tmp_path):
    drawn = draw_ballots(conditions=2, clips=3, num_votes=60, annotators=10, seed=0)
    workspace = Workspace.create(tmp_path / "w")
    workspace.append(
        COMPARISONS, drawn.comparisons.astype(object).where(drawn.comparisons.notna(), None).to_dict("records")
    )
    return workspace, drawn.votes


def test_a_row_for_each_clip_and_none_when_run_again(voted):
    workspace, votes = voted
    summary, _ = write_strengths(workspace, votes=votes)
    assert summary == {"votes": 60, "clips": 6, "changed": 6, "dropped": {}}
    rows = workspace.read(STRENGTHS)
    assert (rows["low"] < rows["strength"]).all() and (rows["strength"] < rows["high"]).all()
    assert rows["num_votes"].sum() == 2 * 60
    assert set(rows["source"]) == {"simulated"}
    assert write_strengths(workspace, votes=votes.sample(frac=1, random_state=1))[0]["changed"] == 0
    assert workspace.read(STRENGTHS).equals(rows)


def test_a_clip_whose_votes_are_gone_loses_its_strength(voted):
    workspace, votes = voted
    write_strengths(workspace, votes=votes)
    comparisons = workspace.read(COMPARISONS)
    left = comparisons[comparisons["condition_id"] == "condition-000000"]
    write_strengths(workspace, votes=votes[votes["comparison_id"].isin(left["comparison_id"])])
    rows = workspace.read(STRENGTHS).set_index("candidate_id")
    gone = rows.iloc[3:]
    assert gone["strength"].isna().all() and (gone["num_votes"] == 0).all()
    assert rows.iloc[:3]["strength"].notna().all()


def test_only_votes_of_the_purpose_count_and_others_are_named(voted):
    workspace, votes = voted
    gold = workspace.read(COMPARISONS).iloc[:1].assign(purpose="gold", stop_margin=None, target_votes=1, round=0)
    workspace.append(COMPARISONS, gold.to_dict("records"))
    unknown = votes.iloc[:1].assign(vote_id="x", comparison_id="elsewhere")
    summary, _ = write_strengths(workspace, votes=pd.concat([votes, unknown]), resamples=0)
    assert summary["votes"] == 50
    assert summary["dropped"] == {
        "comparison this workspace does not know": 1,
        "comparison made for another purpose": 10,
    }


def test_mistakes_are_one_sentence(voted):
    workspace, votes = voted
    with pytest.raises(PrefkitError, match="did you mean 'train'"):
        write_strengths(workspace, votes=votes, purpose="trian")
    with pytest.raises(PrefkitError, match="compares clips for train"):
        write_strengths(workspace, votes=votes.assign(choice="skip"))
    with pytest.raises(PrefkitError, match="human and simulated"):
        write_strengths(workspace, votes=votes.assign(source=["human", "simulated"] * 30))
    assert workspace.read(STRENGTHS).empty
