"""Other projects' votes: in by each format's mapping, out as pairs that prefer what they preferred."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prefkit.aggregation.aggregate import aggregate_votes
from prefkit.comparisons import comparison_id
from prefkit.errors import PrefkitError
from prefkit.importing.votes import import_votes
from prefkit.media import read_clip, sha256_file, write_clip
from prefkit.pairs import build_pairs, load_pairs
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "videoalign" / "example.csv"
VIDEOALIGN = ROOT / ".." / "shared" / "media" / "videoalign"


def clip(path: Path, seed: int) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 255, (3, 4, 4, 1)).astype(np.uint8)
    write_clip(path, coarse.repeat(8, axis=1).repeat(8, axis=2).repeat(3, axis=3), 25, None)
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def votes_of(workspace: Workspace) -> pd.DataFrame:
    store = VoteStore.in_workspace(workspace)
    found = store.votes()
    store.close()
    return found


def preferred(workspace: Workspace) -> dict[str, set[tuple[str, str]]]:
    """Criterion -> (chosen file, rejected file) by the names they were imported from."""
    names = {row["candidate_id"]: json.loads(row["settings"])["source"] for row in workspace.rows(CANDIDATES)}
    summary = build_pairs(workspace, votes=votes_of(workspace))
    found: dict[str, set[tuple[str, str]]] = {}
    for rows in load_pairs(summary["path"]).values():
        for row in rows:
            found.setdefault(row["criterion"], set()).add((names[row["chosen_id"]], names[row["rejected_id"]]))
    return found


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_videoalign_goes_in_and_comes_out_by_axis(workspace: Workspace, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        for index, side in enumerate("AB"):
            clip(tmp_path / "videos" / f"example_{number}_{side}.mp4", 2 * number + index)
    shutil.copy(GOLDEN, tmp_path / "example.csv")
    summary = import_votes(workspace, tmp_path / "example.csv", "videoalign")
    assert summary == {
        "conditions": 3, "candidates": 6, "comparisons": 3, "votes": 9, "already_there": 0,
        "dropped": {"the same answer again": 3},
    }  # fmt: skip
    assert {row["text"][:20] for row in workspace.rows(CONDITIONS)} >= {"The camera remains s"}
    for row in workspace.rows(COMPARISONS):
        assert row["comparison_id"] == comparison_id(row["candidate_a"], row["candidate_b"], "train")
    votes = votes_of(workspace)
    assert set(votes["source"]) == {"videoalign"}
    # what the file says: B B A, same same A, A same same
    assert preferred(workspace) == {
        "visual_quality": {("example_1_B.mp4", "example_1_A.mp4"), ("example_3_A.mp4", "example_3_B.mp4")},
        "motion_quality": {("example_1_B.mp4", "example_1_A.mp4")},
        "text_alignment": {("example_1_A.mp4", "example_1_B.mp4"), ("example_2_A.mp4", "example_2_B.mp4")},
    }
    again = import_votes(workspace, tmp_path / "example.csv", "videoalign")
    assert (again["candidates"], again["comparisons"], again["votes"], again["already_there"]) == (0, 0, 0, 9)


@pytest.mark.skipif(not VIDEOALIGN.exists(), reason="needs VideoAlign's clips in ../shared/media")
def test_the_real_videoalign_examples_open_and_play(workspace: Workspace, tmp_path: Path) -> None:
    import datasets

    summary = import_votes(workspace, VIDEOALIGN / "example.csv", "videoalign")
    assert summary["votes"] == 9 and summary["dropped"] == {"the same answer again": 27}
    questions = aggregate_votes(votes_of(workspace))
    decided = questions[questions["verdict"].isin(["a", "b"])]
    assert decided.groupby("criterion").size().to_dict() == {
        "motion_quality": 1, "text_alignment": 2, "visual_quality": 2,
    }  # fmt: skip
    built = build_pairs(workspace, votes=votes_of(workspace))
    for streaming in (False, True):
        opened = datasets.load_dataset(built["path"], "pairs", cache_dir=str(tmp_path / "cache"), streaming=streaming)
        rows = [row for split in opened.values() for row in split]
        assert len(rows) == 5
        for row in rows:
            frame = row["chosen"][row["chosen"].metadata.num_frames // 2]
            assert frame.shape[0] == 3 and frame.float().std() > 5
    originals = {sha256_file(path) for path in (VIDEOALIGN / "videos").iterdir()}
    assert {row["sha256"] for row in workspace.rows(CANDIDATES)} <= originals  # H.264 is kept as it is


def test_genai_bench_verdicts(workspace: Workspace, tmp_path: Path) -> None:
    for number in range(8):
        clip(tmp_path / f"{number}.mp4", number)
    said = ["leftvote", "rightvote", "tievote", "bothbad_vote"]
    rows = [
        {
            "prompt": f"prompt {index}", "left_video": f"{2 * index}.mp4", "right_video": f"{2 * index + 1}.mp4",
            "left_model": "alpha", "right_model": "beta", "vote_type": word,
        }
        for index, word in enumerate(said)
    ]  # fmt: skip
    summary = import_votes(workspace, table(tmp_path / "votes.csv", rows), "genai-bench")
    assert (summary["votes"], summary["conditions"]) == (4, 4)
    assert sorted(votes_of(workspace)["choice"].map({"a": "ab", "b": "ab"}.get).fillna("-")) == ["-", "-", "ab", "ab"]
    assert preferred(workspace) == {"overall": {("0.mp4", "1.mp4"), ("3.mp4", "2.mp4")}}
    assert {row["generator"] for row in workspace.rows(CANDIDATES)} == {"alpha", "beta"}
    words = table(
        tmp_path / "words.csv",
        [{**row, "vote_type": w} for row, w in zip(rows, ["A>B", "B>A", "A=B=Good", "A=B=Bad"], strict=True)],
    )
    assert import_votes(workspace, words, "genai-bench")["already_there"] == 4


def test_pick_a_pic_images_become_clips_of_one_frame(workspace: Workspace, tmp_path: Path) -> None:
    def jpeg(level: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.full((33, 32, 3), level, np.uint8)).save(buffer, "JPEG")
        return buffer.getvalue()

    rows = [
        {"caption": "a dog", "jpg_0": jpeg(10), "jpg_1": jpeg(200), "label_0": 0.0, "label_1": 1.0, "user_id": 5,
         "has_label": True},
        {"caption": "a dog", "jpg_0": jpeg(200), "jpg_1": jpeg(10), "label_0": 1.0, "label_1": 0.0, "user_id": 6,
         "has_label": True},
        {"caption": "a cat", "jpg_0": jpeg(60), "jpg_1": jpeg(90), "label_0": 0.5, "label_1": 0.5, "user_id": 5,
         "has_label": True},
        {"caption": "a cow", "jpg_0": jpeg(60), "jpg_1": jpeg(90), "label_0": 0.5, "label_1": 0.5, "user_id": 5,
         "has_label": False},
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    summary = import_votes(workspace, tmp_path / "train.parquet", "pick-a-pic")
    assert (summary["votes"], summary["comparisons"], summary["candidates"]) == (3, 2, 4)
    assert set(votes_of(workspace)["annotator"]) == {"pick-a-pic-5", "pick-a-pic-6"}
    built = build_pairs(workspace, votes=votes_of(workspace))
    (row,) = (row for split in load_pairs(built["path"]).values() for row in split)
    assert row["preference"] == 1.0 and row["num_votes"] == 2 and row["prompt"] == "a dog"
    assert read_clip(row["chosen"]["path"]).frames.mean() == pytest.approx(200, abs=3)


def test_a_plain_table_there_and_back_through_pick_a_pics_view(workspace: Workspace, tmp_path: Path) -> None:
    """left, right, choice, annotator -> pairs -> Pick-a-Pic's columns -> the same pairs in another workspace."""
    for name in "abcd":
        clip(tmp_path / f"{name}.mp4", ord(name))
    rows = [
        {"left": "a.mp4", "right": "b.mp4", "choice": "left", "annotator": "ann"},
        {"left": "b.mp4", "right": "a.mp4", "choice": "right", "annotator": "bob"},
        {"left": "b.mp4", "right": "c.mp4", "choice": "right", "annotator": "ann"},
        {"left": "c.mp4", "right": "d.mp4", "choice": "tie", "annotator": "ann"},
        {"left": "a.mp4", "right": "gone.mp4", "choice": "left", "annotator": "ann"},
    ]
    summary = import_votes(workspace, table(tmp_path / "votes.csv", rows), "votes")
    assert summary["conditions"] == 1  # a-b-c-d are compared with each other
    assert summary["votes"] == 4 and summary["dropped"] == {"clip file missing": 1}
    expected = {("a.mp4", "b.mp4"), ("c.mp4", "b.mp4")}
    assert preferred(workspace) == {"overall": expected}
    built = build_pairs(workspace, votes=votes_of(workspace), pick_a_pic=True)
    (view,) = Path(built["path"], "pick-a-pic").glob("*.parquet")
    labels = pq.read_table(view).to_pylist()
    assert all(row["label_0"] + row["label_1"] == 1 and row["jpg_0"][:2] == b"\xff\xd8" for row in labels)
    hashes = {row["candidate_id"]: row["sha256"] for row in workspace.rows(CANDIDATES)}
    other = Workspace.create(tmp_path / "other")
    assert import_votes(other, view, "pick-a-pic")["votes"] == 2
    built = build_pairs(other, votes=votes_of(other))
    back = {row["candidate_id"]: row["sha256"] for row in other.rows(CANDIDATES)}
    pairs = [row for split in load_pairs(built["path"]).values() for row in split]
    names = {sha256_file(tmp_path / f"{name}.mp4"): f"{name}.mp4" for name in "abcd"}
    assert {(names[back[row["chosen_id"]]], names[back[row["rejected_id"]]]) for row in pairs} == expected
    assert set(back.values()) < set(hashes.values())


def test_mistakes_are_one_sentence_and_change_nothing(workspace: Workspace, tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4", 1), clip(tmp_path / "b.mp4", 2)
    row = {"left": "a.mp4", "right": "b.mp4", "choice": "left", "annotator": "ann"}
    mistakes = [
        ([row], "vidoalign", "did you mean 'videoalign'"),
        ([row], "videoalign", "no column 'path_A'"),
        ([{**row, "choice": "lefft"}], "votes", "row 1 .* says 'lefft' in choice; expected left, right"),
        ([{**row, "annotator": ""}], "votes", "row 1 .* has no annotator"),
        ([{**row, "left": "x.mp4"}], "votes", "none of the clips"),
        ([row, {**row, "choice": "right"}], "votes", "rows 1 and 2 .* contradict"),
        ([row, {"left": "b.mp4", "right": "a.mp4", "choice": "left", "annotator": "ann"}], "votes", "contradict"),
    ]
    for rows, format, sentence in mistakes:
        with pytest.raises(PrefkitError, match=sentence):
            import_votes(workspace, table(tmp_path / "votes.csv", rows), format)
    assert sorted(path.name for path in workspace.root.iterdir()) == ["workspace.json"]
    import_votes(workspace, table(tmp_path / "votes.csv", [row]), "votes")
    with pytest.raises(PrefkitError, match="already stored with another choice"):
        import_votes(workspace, table(tmp_path / "votes.csv", [{**row, "choice": "right"}]), "votes")
    assert len(votes_of(workspace)) == 1
