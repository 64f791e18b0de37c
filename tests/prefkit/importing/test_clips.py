"""Existing clips become candidates: all of them, once, or none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from prefkit.errors import PrefkitError
from prefkit.importing.clips import import_clips
from prefkit.media import probe, read_audio, read_clip, sha256_file, write_clip, write_image, write_wav
from prefkit.tables import CANDIDATES, CONDITIONS
from prefkit.workspace import Workspace


def clip(path: Path, seed: int = 0, num_frames: int = 5, fps: float = 25, sound: bool = True) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 255, (num_frames, 4, 4, 1)).astype(np.uint8)
    frames = coarse.repeat(8, axis=1).repeat(8, axis=2).repeat(3, axis=3)
    audio = (2000 * np.sin(np.arange(3200) / (5 + seed))).astype(np.int16)
    write_clip(path, frames, fps, audio if sound else None)
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def contents(workspace: Workspace) -> dict[str, str]:
    files = (path for path in workspace.root.rglob("*") if path.is_file())
    return {str(path.relative_to(workspace.root)): sha256_file(path) for path in files}


def test_a_folder_has_a_condition_per_sub_folder(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "my clips"
    clip(source / "greeting" / "a.mp4", 1)
    clip(source / "greeting" / "it's b.mp4", 2)
    clip(source / "farewell" / "a.mp4", 3, num_frames=7)
    clip(source / "direct.mp4", 4)
    (source / "notes.txt").write_text("not a clip")
    summary = import_clips(workspace, source)
    assert summary == {"candidates": 4, "conditions": 3, "already_there": 0, "reencoded": 0}

    rows = workspace.rows(CANDIDATES)
    candidates = {json.loads(row["settings"])["source"] + str(row["num_frames"]): row for row in rows}
    assert len({row["condition_id"] for row in candidates.values()}) == 3
    row = candidates["it's b.mp45"]
    assert row["condition_id"] == candidates["a.mp45"]["condition_id"]
    assert (row["fps"], row["generator"], row["round"], row["error"]) == (25, "imported", 0, None)
    stored = workspace.path(row["clip"])
    assert row["sha256"] == sha256_file(stored) == sha256_file(source / "greeting" / "it's b.mp4")

    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    condition = conditions[row["condition_id"]]
    assert (condition["fps"], condition["num_frames"], condition["reference_image"]) == (25, 5, None)
    # the first clip's sound
    np.testing.assert_array_equal(
        read_audio(workspace.path(condition["audio"])), read_audio(source / "greeting" / "a.mp4")
    )


def test_importing_again_does_nothing_twice(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "clips"
    clip(source / "c" / "b.mp4", 1)
    import_clips(workspace, source)
    before = contents(workspace)
    assert import_clips(workspace, source) == {"candidates": 0, "conditions": 0, "already_there": 1, "reencoded": 0}
    assert contents(workspace) == before
    clip(source / "c" / "a.mp4", 2)  # comes first now; the condition stays what it was
    assert import_clips(workspace, source) == {"candidates": 1, "conditions": 0, "already_there": 1, "reencoded": 0}
    assert len(workspace.rows(CONDITIONS)) == 1


def manifest(folder: Path) -> list[dict[str, Any]]:
    clip(folder / "clips" / "a.mp4", 1)
    clip(folder / "clips" / "b.mp4", 2)
    write_image(folder / "face.png", np.full((8, 8, 3), 99, np.uint8))
    write_wav(folder / "speech.wav", np.arange(100, dtype=np.int16), 44100)
    clip(folder / "skeleton.mp4", 3, sound=False)
    common = {"condition": "007", "identity": "NA", "reference_image": "face.png", "audio": "speech.wav"}
    common |= {"skeleton": "skeleton.mp4", "split": "test", "licence": "CC0", "consent": "yes", "text": "hello"}
    return [
        {"clip": "clips/a.mp4", "generator": "one", "seed": 3, **common},
        {"clip": "clips/b.mp4", "generator": "two", **common},
    ]


def write_csv(rows: list[dict[str, Any]], path: Path) -> Path:
    pd.DataFrame(rows).astype({"seed": "Int64"}).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def write_jsonl(rows: list[dict[str, Any]], path: Path) -> Path:
    path.with_suffix(".jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return path.with_suffix(".jsonl")


def write_parquet(rows: list[dict[str, Any]], path: Path) -> Path:
    pd.DataFrame(rows).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_a_manifest_says_what_is_known(
    workspace: Workspace, tmp_path: Path, write: Callable[[list[dict[str, Any]], Path], Path]
) -> None:
    import_clips(workspace, write(manifest(tmp_path), tmp_path / "manifest"))
    (condition,) = workspace.rows(CONDITIONS)
    found = {name: condition[name] for name in ("identity", "split", "licence", "consent", "text")}
    assert found == {"identity": "NA", "split": "test", "licence": "CC0", "consent": "yes", "text": "hello"}
    for name, original in (("reference_image", "face.png"), ("audio", "speech.wav"), ("skeleton", "skeleton.mp4")):
        assert sha256_file(workspace.path(condition[name])) == sha256_file(tmp_path / original)
    one, two = workspace.rows(CANDIDATES)
    assert (one["generator"], one["seed"], two["generator"], two["seed"]) == ("one", 3, "two", None)


def test_what_a_browser_cannot_play_is_encoded_anew(workspace: Workspace, tmp_path: Path) -> None:
    original = clip(tmp_path / "original.mp4", 1, num_frames=10)
    copy = tmp_path / "clips" / "c.mkv"
    copy.parent.mkdir()
    with av.open(str(original)) as source, av.open(str(copy), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    assert import_clips(workspace, tmp_path / "clips")["reencoded"] == 1
    (row,) = workspace.rows(CANDIDATES)
    stored = workspace.path(row["clip"])
    assert stored.suffix == ".mp4" and probe(stored).codec == "h264" and row["num_frames"] == 10
    assert np.abs(read_clip(stored).frames.astype(int) - read_clip(original).frames).mean() < 4
    assert np.corrcoef(read_audio(stored)[:3000], read_audio(original)[:3000])[0, 1] > 0.98  # in its place
    assert json.loads(row["settings"])["source_sha256"] == sha256_file(copy)
    assert import_clips(workspace, tmp_path / "clips")["already_there"] == 1


def test_clips_are_resampled_where_a_frame_rate_is_named(workspace: Workspace, tmp_path: Path) -> None:
    clip(tmp_path / "c" / "25.mp4", 1, num_frames=5)
    steps = np.repeat(np.arange(0, 240, 20, dtype=np.uint8), 32 * 32 * 3).reshape(12, 32, 32, 3)
    for fps in (12.5, 50):
        write_clip(tmp_path / "c" / f"{fps:g}.mp4", steps, fps, np.ones(8000, np.int16))
    assert import_clips(workspace, tmp_path / "c", fps=25)["reencoded"] == 2
    rows = {json.loads(row["settings"])["source"]: row for row in workspace.rows(CANDIDATES)}
    assert {name: (row["fps"], row["num_frames"]) for name, row in rows.items()} == {
        "25.mp4": (25, 5), "12.5.mp4": (25, 24), "50.mp4": (25, 6)
    }  # fmt: skip
    levels = {name: read_clip(workspace.path(row["clip"])).frames.mean(axis=(1, 2, 3)) for name, row in rows.items()}
    np.testing.assert_allclose(levels["12.5.mp4"], np.arange(24) // 2 * 20, atol=3)
    assert np.all(np.abs(np.diff(levels["50.mp4"]) - 40) < 6)
    assert import_clips(workspace, tmp_path / "c", fps=25)["already_there"] == 3
    with pytest.raises(PrefkitError, match="frame rate of 0"):
        import_clips(workspace, tmp_path / "c", fps=0)


def bad(tmp_path: Path, kind: str) -> Path:
    rows = manifest(tmp_path)
    if kind == "silent":
        clip(tmp_path / "clips" / "b.mp4", sound=False)
    if kind == "unreadable":
        (tmp_path / "clips" / "b.mp4").write_text("no video")
    if kind == "truncated":
        data = (tmp_path / "clips" / "b.mp4").read_bytes()
        (tmp_path / "clips" / "b.mp4").write_bytes(data[: len(data) // 2])
    if kind == "missing":
        (tmp_path / "clips" / "b.mp4").unlink()
    if kind == "image":
        rows[1]["reference_image"] = rows[0]["reference_image"] = "speech.wav"
    if kind == "two splits":
        rows[1] |= {"condition": "other", "split": "train"}
    if kind == "unknown split":
        rows[0]["split"] = rows[1]["split"] = "tset"
    if kind == "two texts":
        rows[1]["text"] = "bye"
    if kind == "seed":
        rows[1]["seed"] = "x"
    if kind == "no condition":
        rows[1]["condition"] = None
    if kind == "column":
        rows[1]["identiti"] = "x"
    return write_jsonl(rows, tmp_path / "manifest")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("silent", r"b\.mp4 has no sound"),
        ("unreadable", r"b\.mp4 is no video"),
        ("truncated", r"b\.mp4"),
        ("missing", r"there is no file .*b\.mp4"),
        ("image", r"speech\.wav cannot be read as an image"),
        ("two splits", "identity 'NA' is in both splits"),
        ("unknown split", "'tset'; expected train or test"),
        ("two texts", "differ in text"),
        ("seed", "expected a whole number"),
        ("no condition", "row 2 of .* has no condition"),
        ("column", "'identiti' that import does not know – did you mean 'identity'"),
    ],
)
def test_one_bad_file_imports_nothing(workspace: Workspace, tmp_path: Path, kind: str, sentence: str) -> None:
    path = bad(tmp_path, kind)
    before = contents(workspace)
    with pytest.raises(PrefkitError, match=sentence) as caught:
        import_clips(workspace, path)
    assert "\n" not in str(caught.value)
    assert contents(workspace) == before


def test_a_condition_of_the_same_name_must_be_the_same(workspace: Workspace, tmp_path: Path) -> None:
    rows = manifest(tmp_path)
    import_clips(workspace, write_jsonl([{"clip": "clips/a.mp4", "condition": "007"}], tmp_path / "first"))
    known = workspace.rows(CONDITIONS)[0]
    filled = [{name: value for name, value in row.items() if name != "audio"} for row in rows]
    import_clips(workspace, write_jsonl(filled, tmp_path / "second"))
    (condition,) = workspace.rows(CONDITIONS)
    assert condition["identity"] == "NA" and condition["audio"] == known["audio"]
    before = contents(workspace)
    with pytest.raises(PrefkitError, match="'007' is in the workspace with another audio"):
        import_clips(workspace, write_jsonl(rows, tmp_path / "third"))
    assert contents(workspace) == before


def test_a_source_without_clips_is_one_sentence(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("clip,condition\n")
    (tmp_path / "odd.csv").write_text("clip,name\na.mp4,b\n")
    (tmp_path / "broken.jsonl").write_text('{"clip": \n')
    (tmp_path / "image.png").touch()
    sentences = {
        "empty": "holds no clips",
        "nowhere": "there is no folder or manifest",
        "list.csv": "has no rows",
        "odd.csv": "column 'name' that import does not know",
        "broken.jsonl": "cannot be read as a table",
        "image.png": "is no manifest",
    }
    for name, sentence in sentences.items():
        with pytest.raises(PrefkitError, match=sentence):
            import_clips(workspace, tmp_path / name)
