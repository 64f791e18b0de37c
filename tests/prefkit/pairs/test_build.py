"""The preference dataset: from real clips and votes to a folder that `datasets` opens."""

import json
import random

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.comparisons import make_comparisons
from prefkit.errors import PrefkitError
from prefkit.media import read_clip, write_clip, write_image, write_wav
from prefkit.pairs import build_pairs, load_pairs
from prefkit.pairs.splits import assign_splits
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, VOTES
from prefkit.workspace import Workspace

SCHEMA = VOTES.schema.names


@pytest.fixture
def workspace(tmp_path):
    """Four identities with one condition each, two real clips per condition, one comparison each."""
    workspace = Workspace.create(tmp_path / "w")
    rng = np.random.default_rng(0)
    speech = (3000 * rng.standard_normal(3200)).astype(np.int16)
    write_wav(workspace.path("media/speech.wav"), speech)
    for number in range(4):
        write_image(workspace.path(f"media/{number}.png"), np.full((16, 16, 3), 50 * number, np.uint8))
        workspace.append(
            CONDITIONS,
            [
                {
                    "condition_id": f"c{number}",
                    "identity": f"person {number}",
                    "reference_image": f"media/{number}.png",
                    "audio": "media/speech.wav",
                    "fps": 25.0,
                    "num_frames": 5,
                    "licence": "cc-by-4.0",
                }
            ],
        )
        for which in "pq":
            name = f"c{number}{which}"
            write_clip(
                workspace.path(f"clips/{name}.mp4"), rng.integers(0, 256, (5, 16, 16, 3), np.uint8), 25.0, speech
            )
            workspace.append(
                CANDIDATES,
                [
                    {
                        "candidate_id": name,
                        "condition_id": f"c{number}",
                        "generator": "tiny",
                        "clip": f"clips/{name}.mp4",
                        "round": 0,
                    }
                ],
            )
    make_comparisons(workspace)
    return workspace


def votes_on(workspace, choices=("a", "a", "b"), criteria=("overall",), source="human"):
    """Each annotator gives the same choice to every comparison."""
    comparisons = workspace.read(COMPARISONS)
    rows = [
        {
            "vote_id": f"{comparison}-{criterion}-{index}",
            "comparison_id": comparison,
            "annotator": f"annotator {index}",
            "criterion": criterion,
            "repeat": 0,
            "choice": choice,
            "left": "a",
            "seconds": 2.5,
            "source": source,
            "created_at": pd.Timestamp("2025-01-01", tz="UTC") + pd.Timedelta(seconds=index),
        }
        for comparison in comparisons["comparison_id"]
        for criterion in criteria
        for index, choice in enumerate(choices)
    ]
    return pd.DataFrame(rows).reindex(columns=SCHEMA)


def read_all(folder):
    return pd.concat([pq.read_table(path).to_pandas() for path in sorted((folder / "pairs").glob("*.parquet"))])


def test_datasets_opens_it_offline_and_the_clips_play(workspace, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    summary = build_pairs(workspace, votes=votes_on(workspace, criteria=("overall", "expression")))
    folder = workspace.path("pairs")
    assert sum(summary["pairs"].values()) == 8 and summary["pairs"]["test"] >= 2
    for streaming in (False, True):
        opened = {
            name: datasets.load_dataset(str(folder), name, cache_dir=str(tmp_path / "cache"), streaming=streaming)
            for name in ("pairs", "votes", "clips")
        }
        rows = {split: list(rows) for split, rows in opened["pairs"].items()}
        assert {split: len(found) for split, found in rows.items()} == summary["pairs"]
        row = rows["train"][0]
        assert row["chosen"].metadata.path == str(folder / f"clips/{row['chosen_id']}.mp4")
        assert row["chosen"][:].shape == row["rejected"][:].shape == (5, 3, 16, 16)
        assert (row["preference"], row["num_votes"], row["source"]) == (pytest.approx(2 / 3), 3, "human")
        votes = list(opened["votes"]["train"])
        assert len(votes) == 24 and votes[0]["candidate_a"] < votes[0]["candidate_b"]
        assert votes[0]["clip_a"].metadata.path == str(folder / f"clips/{votes[0]['candidate_a']}.mp4")
        clips = list(opened["clips"]["train"])
        assert len(clips) == 8 and clips[0]["video"][0].shape == (3, 16, 16)

    opened = load_pairs(folder)
    assert isinstance(opened["train"].features["chosen"], datasets.Video)
    assert read_clip(opened["train"][0]["rejected"]["path"]).frames.shape == (5, 16, 16, 3)
    assert set(opened["test"]["identity"]).isdisjoint(opened["train"]["identity"])


def test_the_preferred_clip_is_chosen_whichever_side_it_has(workspace):
    votes = votes_on(workspace, choices=("b", "b", "tie"))
    build_pairs(workspace, votes=votes)
    rows = read_all(workspace.path("pairs"))
    assert rows["chosen_id"].str.endswith("q").all() and rows["rejected_id"].str.endswith("p").all()
    assert rows["preference"].tolist() == pytest.approx([5 / 6] * 4)
    assert rows["tie_probability"].tolist() == pytest.approx([1 / 3] * 4)


def test_order_of_votes_and_reruns_give_the_same_bytes(workspace, tmp_path):
    votes = votes_on(workspace, criteria=("overall", "expression"))
    shuffled = votes.sample(frac=1, random_state=random.Random(1).randrange(99))
    first = build_pairs(workspace, tmp_path / "first", votes=votes)
    again = build_pairs(workspace, tmp_path / "again", votes=shuffled)
    assert first["fingerprint"] == again["fingerprint"]
    written = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert len(written) >= 2 + 2 + 1 + 8
    for path in written:
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "again" / path).read_bytes(), path


def test_the_funnel_counts_every_drop(workspace):
    ids = list(workspace.read(COMPARISONS)["comparison_id"])
    votes = votes_on(workspace)
    of = [votes["comparison_id"] == name for name in ids]
    votes.loc[of[1], "choice"] = "tie"
    votes.loc[of[2], "choice"] = "both_bad"
    stray = votes[of[0]].assign(comparison_id="gone", vote_id=["s0", "s1", "s2"])
    summary = build_pairs(workspace, votes=pd.concat([votes[~of[3]], stray]))
    steps = {step["step"]: step for step in summary["funnel"]}
    assert steps["votes"] == {
        "step": "votes",
        "total": 12,
        "dropped": {"comparison this workspace does not know": 3},
        "left": 9,
    }
    assert steps["questions"]["dropped"] == {"not voted on": 1, "both clips bad": 1, "tie": 1}
    assert steps["pairs"] == {"step": "pairs", "total": 1, "dropped": {}, "left": 1}


def test_a_missing_clip_is_a_counted_drop(workspace):
    votes = votes_on(workspace)
    workspace.path("clips/c2q.mp4").unlink()
    summary = build_pairs(workspace, votes=votes)
    assert summary["funnel"][-1] == {"step": "pairs", "total": 4, "dropped": {"clip file missing": 1}, "left": 3}
    assert "c2" not in set(read_all(workspace.path("pairs"))["condition_id"])


def test_only_training_comparisons_feed_pairs(workspace):
    make_comparisons(workspace, purpose="gold")
    summary = build_pairs(workspace, votes=votes_on(workspace))
    assert summary["funnel"][0]["dropped"] == {"comparison made for another purpose (gold)": 12}
    assert len(read_all(workspace.path("pairs"))) == 4
    assert len(pq.read_table(workspace.path("pairs/votes.parquet"))) == 12


def test_mistakes_are_one_sentence_and_leave_the_previous_dataset(workspace):
    votes = votes_on(workspace)
    build_pairs(workspace, votes=votes)
    before = (workspace.path("pairs/prefkit.json")).read_bytes()
    half = votes.assign(source=np.where(votes["annotator"] == "annotator 0", "simulated", "human"))
    mistakes = [
        ({"votes": votes.iloc[:0]}, "there are no votes"),
        ({"votes": votes.assign(choice="tie")}, "4 × tie"),
        ({"votes": votes.assign(comparison_id="gone")}, "none of 12 votes counts"),
        ({"votes": half}, "8 human and 4 simulated"),
        (
            {"votes": pd.concat([votes, votes.iloc[:1].assign(choice="both_bad")])},
            "is there twice with different answers",
        ),
        ({"votes": votes, "criteria": ["overal"]}, "did you mean 'overall'"),
        ({"votes": votes, "criteria": ["expression"]}, "nobody voted on 'expression'"),
        ({"votes": votes, "min_agreement": 0.9}, "4 × agreement below 0.9"),
        ({"votes": votes, "min_votes": 4}, "4 × fewer than 4 votes"),
        ({"votes": votes, "min_votes": 0}, "at least 1"),
        ({"votes": votes, "output": workspace.root}, "is no preference dataset"),
    ]
    for options, sentence in mistakes:
        with pytest.raises(PrefkitError, match=sentence):
            build_pairs(workspace, **options)
    assert workspace.path("pairs/prefkit.json").read_bytes() == before
    assert not list(workspace.root.glob(".writing-*"))


def test_an_interrupted_build_leaves_the_previous_dataset(workspace, monkeypatch):
    votes = votes_on(workspace)
    build_pairs(workspace, votes=votes)
    before = {path: path.read_bytes() for path in workspace.path("pairs").rglob("*") if path.is_file()}

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("prefkit.pairs.dataset.dataset_card", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_pairs(workspace, votes=votes.assign(choice="b"))
    assert {path: path.read_bytes() for path in workspace.path("pairs").rglob("*") if path.is_file()} == before


def test_mixed_sources_when_allowed_say_so(workspace):
    votes = votes_on(workspace)
    votes["source"] = np.where(votes["annotator"] == "annotator 0", "simulated", "human")
    build_pairs(workspace, votes=votes, allow_mixed_sources=True)
    assert set(read_all(workspace.path("pairs"))["source"]) == {"human+simulated"}
    assert "4 of 12 votes in this dataset are simulated" in workspace.path("pairs/README.md").read_text()


@pytest.mark.parametrize("source", ["human", "simulated"])
def test_the_card_is_valid_and_tells_simulated_votes_first(workspace, source):
    from huggingface_hub import DatasetCard

    build_pairs(workspace, votes=votes_on(workspace, source=source))
    card = DatasetCard.load(workspace.path("pairs/README.md"))
    assert card.data.license == "cc-by-4.0"
    assert [config["config_name"] for config in card.data.configs] == ["pairs", "votes", "clips"]
    assert ("simulated-votes" in card.data.tags) == (source == "simulated")
    assert ("human-feedback" in card.data.tags) == (source == "human")
    first = card.text.strip().splitlines()[2]
    assert ("All votes in this dataset are simulated" in first) == (source == "simulated")
    assert "{{" not in card.text and "None" not in card.text
    made = json.loads(workspace.path("pairs/prefkit.json").read_text())
    assert made["fingerprint"] in card.text and made["sources"] == {source: 12}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("vwxyz"), st.booleans()), min_size=1, max_size=12), st.floats(0, 0.9))
def test_splits_keep_identities_together_and_hold_some_out(people, fraction):
    conditions = pd.DataFrame(
        [
            {"condition_id": f"c{index}", "identity": name, "split": "train" if named else None}
            for index, (name, named) in enumerate(people)
        ]
    )
    split = conditions["condition_id"].map(assign_splits(conditions, fraction))
    if conditions["identity"].nunique() > 1:
        assert (split.groupby(conditions["identity"]).nunique() == 1).all()
        assert set(split) == ({"train", "test"} if fraction > 0 else {"train"})


def test_splits_that_conditions_name_are_kept():
    conditions = pd.DataFrame(
        {"condition_id": list("abc"), "identity": ["i", "j", "j"], "split": ["train", "test", None]}
    )
    assert assign_splits(conditions, 0.5) == {"a": "train", "b": "test", "c": "test"}
