"""The whole path on a real clip: decode, track, crop, MFCC, network; with random weights in the published format."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prefkit.media import iter_frames, read_audio, write_clip
from prefkit.metrics.syncnet import SyncNet
from prefkit.scoring import score_candidates
from prefkit.tables import CANDIDATES, CONDITIONS, SCORES
from prefkit.workspace import Workspace

TALKING = Path(__file__).resolve().parents[2] / ".." / "shared" / "media" / "talking_25fps.mp4"
pytestmark = pytest.mark.skipif(not TALKING.exists(), reason=f"needs the real clip {TALKING.name} in ../shared/media")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The clip as it is; and its last second alone, after one second of black."""
    folder = tmp_path_factory.mktemp("faces")
    workspace = Workspace.create(folder / "w")
    frames = np.stack([image[400:1000:2, 200:1000:2] for image, seconds in iter_frames(TALKING) if seconds < 2])
    frames[:25] = 0
    write_clip(workspace.path("clips/half.mp4"), frames, 25, read_audio(TALKING)[:32000])
    torch.manual_seed(0)
    torch.save(SyncNet().state_dict(), folder / "syncnet_v2.model")
    workspace.append(CONDITIONS, [{"condition_id": "c"}])
    clips = {"whole": str(TALKING.resolve()), "half": "clips/half.mp4"}
    workspace.append(CANDIDATES, [{"candidate_id": n, "condition_id": "c", "clip": path} for n, path in clips.items()])
    names = ["sync_c", "sync_d", "sync_d0", "no_face_ratio"]
    summary = score_candidates(workspace, names, weights={"syncnet": folder / "syncnet_v2.model"})
    assert summary["scored"] == 8
    return {(row["candidate_id"], row["metric"]): row for row in workspace.rows(SCORES)}


def test_one_steady_track_over_all_frames_aligned_to_the_files_timestamps(rows: dict) -> None:
    details = json.loads(rows["whole", "sync_c"]["details"])
    track = details["track"]
    assert track["frames"] == [0, 249] and track["samples_with_this_face"] == track["samples"] == 51
    assert details["alignment"]["frames"] == 250 and details["alignment"]["largest_error_s"] <= 0.02
    assert len(details["confidence_per_window"]) == 245
    assert details["network"]["variant"] == "syncnet_v2" and details["mode"] == "reference"
    assert rows["whole", "sync_d0"]["value"] >= rows["whole", "sync_d"]["value"] > 0
    assert rows["whole", "no_face_ratio"]["value"] == 0


def test_a_face_in_half_of_the_clip_is_scored_there(rows: dict) -> None:
    assert rows["half", "no_face_ratio"]["value"] == pytest.approx(0.5, abs=0.06)
    first, last = json.loads(rows["half", "sync_c"]["details"])["track"]["frames"]
    assert first == 25 and last == 49
