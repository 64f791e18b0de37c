"""What people really have: every clip gets a row with a right score or a reason, and none stops the batch."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from prefkit.media import sha256_file, write_clip
from prefkit.metrics.catalogue import METRICS
from prefkit.metrics.syncnet import SyncNet, SyncNetConfig
from prefkit.metrics.weights import save_weights
from prefkit.scoring import score_candidates
from prefkit.tables import CANDIDATES, CONDITIONS, SCORES
from prefkit.workspace import Workspace

SMALL = SyncNetConfig(
    frame_size=64, audio_widths=(4,) * 6, lip_widths=(4,) * 6, hidden=8, embedding=8, variant="random"
)
SYNC = [name for name in METRICS if name.startswith("sync")]
PLAIN = ["flicker", "freeze_ratio", "black_ratio", "dynamic_degree"]


def picture(frames: int = 30, height: int = 96, width: int = 96) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin((x + 3 * t) / 9) * np.cos((y - t) / 7) for t in range(frames)]
    return np.repeat(np.stack(waves).astype(np.uint8)[..., None], 3, axis=3)


def speech(seconds: float = 1.2) -> np.ndarray:
    return np.random.default_rng(0).integers(-4000, 4000, int(16000 * seconds)).astype(np.int16)


def encode(path: Path, frames: np.ndarray, codec: str, pix_fmt: str, times_ms: list[int] | None = None) -> None:
    """With a codec of one's own, uneven times if given, and sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        video.codec_context.time_base = Fraction(1, 1000)
        if codec == "libx265":
            video.options = {"x265-params": "log-level=none"}
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = (times_ms[index] if times_ms else 40 * index), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(speech()[None], format="s16", layout="mono")
        block.sample_rate, block.time_base, block.pts = 16000, Fraction(1, 16000), 0
        container.mux(sound.encode(block))
        container.mux(sound.encode(None))


def make_clips(folder: Path) -> dict[str, Path]:
    names = {
        "good": "good.mp4",
        "no sound": "no_sound.mp4",
        "3 frames": "three.mp4",
        "truncated": "truncated.mp4",
        "text": "text.mp4",
        "uneven": "uneven.mkv",
        "odd": "odd.mkv",
        "10 bit": "ten.mkv",
        "quotes": 'it\'s "a: b%d" $(x).mp4',
        "no boxes": "no_boxes.mp4",
    }
    paths = {name: folder / file for name, file in names.items()}
    for name in ("good", "quotes", "no boxes"):
        write_clip(paths[name], picture(), 25, speech())
    write_clip(paths["no sound"], picture(), 25)
    write_clip(paths["3 frames"], picture(3), 25, speech())
    noise = np.random.default_rng(0).integers(0, 255, (30, 96, 96, 3)).astype(np.uint8)
    write_clip(paths["truncated"], noise, 25, speech())
    data = paths["truncated"].read_bytes()
    paths["truncated"].write_bytes(data[: len(data) * 2 // 3])
    paths["text"].write_text("this is no video\n")
    encode(paths["uneven"], picture(), "libx264", "yuv420p", [40 * i + (12 if i % 2 else 0) for i in range(30)])
    encode(paths["odd"], picture(30, 97, 61), "libx264", "yuv444p")
    encode(paths["10 bit"], picture(), "libx265", "yuv420p10le")
    return paths


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("bad clips")
    workspace = Workspace.create(folder / "w s")
    (folder / "w s" / "clips").mkdir()
    about = folder / "about"
    about.mkdir()
    rows = []
    for name, path in make_clips(workspace.path("clips")).items():
        clip = f"clips/{path.name}"
        rows.append({"candidate_id": name, "condition_id": "c", "clip": clip, "sha256": sha256_file(path)})
        if name != "no boxes":
            np.savez(about / f"{name}.npz", boxes=np.tile([20.0, 20, 70, 70], (3 if name == "3 frames" else 30, 1)))
    rows.append({"candidate_id": "never made", "condition_id": "c", "error": "the generator ran out of memory"})
    workspace.append(CONDITIONS, [{"condition_id": "c"}])
    workspace.append(CANDIDATES, rows)
    weights = folder / "small syncnet.safetensors"
    save_weights(weights, SyncNet(SMALL).state_dict(), dataclasses.asdict(SMALL))
    summary = score_candidates(workspace, weights={"syncnet": weights}, supplied=about)
    assert summary["clips"] == len(rows) and summary["failed"] == 2 * (len(METRICS) - 3)  # three lack weights
    return workspace


@pytest.fixture(scope="module")
def rows(workspace: Workspace) -> dict[str, dict[str, dict]]:
    found: dict[str, dict[str, dict]] = {}
    for row in workspace.rows(SCORES):
        found.setdefault(row["candidate_id"], {})[row["metric"]] = row
    return found


def test_every_clip_has_a_row_a_metric_with_a_value_or_a_reason(rows: dict) -> None:
    assert len(rows) == 11
    for clip in rows.values():
        assert set(clip) == set(METRICS)
        for row in clip.values():
            assert (row["value"] is None) == (row["error_type"] is not None) == bool(row["error"])
            assert row["error_type"] != "failed", row
            assert json.loads(row["details"])["versions"]


@pytest.mark.parametrize("name", ["good", "quotes", "uneven", "odd", "10 bit"])
def test_clips_that_can_be_read_are_scored(rows: dict, name: str) -> None:
    for metric in (*SYNC, *PLAIN, "silent_ratio"):
        assert rows[name][metric]["value"] is not None, rows[name][metric]["error"]
    assert rows[name]["black_ratio"]["value"] == 0 == rows[name]["no_face_ratio"]["value"]
    details = json.loads(rows[name]["sync_c"]["details"])
    assert details["network"]["variant"] == "random" and details["track"]["detector"] == "supplied"
    assert details["alignment"]["frames"] in (29, 30) and details["alignment"]["largest_error_s"] <= 0.02


def test_the_same_picture_moves_alike_however_it_is_stored(rows: dict) -> None:
    values = [rows[name]["dynamic_degree"]["value"] for name in ("good", "quotes", "10 bit", "uneven")]
    np.testing.assert_allclose(values, values[0], rtol=0.1)


@pytest.mark.parametrize(
    ("name", "metric", "kind"),
    [
        ("no sound", "sync_c", "no_sound"),
        ("no sound", "silent_ratio", "no_sound"),
        ("3 frames", "sync_c", "too_short"),
        ("truncated", "flicker", "unreadable"),
        ("text", "sync_d", "unreadable"),
        ("no boxes", "sync_c", "no_face"),
        ("never made", "flicker", "no_clip"),
        ("good", "mouth_range", "no_landmarks"),
        ("good", "identity_consistency", "lacking"),
        ("good", "pose_pck", "no_keypoints"),
    ],
)
def test_what_is_missing_is_said(rows: dict, name: str, metric: str, kind: str) -> None:
    row = rows[name][metric]
    assert (row["value"], row["error_type"]) == (None, kind), row["error"]


def test_what_does_not_need_the_missing_part_is_scored(rows: dict) -> None:
    assert all(rows["no sound"][metric]["value"] is not None for metric in PLAIN)
    assert all(rows["3 frames"][metric]["value"] is not None for metric in (*PLAIN, "flow_acceleration"))
    assert rows["no boxes"]["no_face_ratio"]["value"] == 1
