"""A real talking clip against damaged copies: import, then scores that see the damage."""

from pathlib import Path

import numpy as np
import pytest

from prefkit.importing import import_clips
from prefkit.media import iter_frames, probe, read_audio, write_clip
from prefkit.metrics.catalogue import METRICS
from prefkit.scoring import score_candidates
from prefkit.tables import CANDIDATES, SCORES
from prefkit.workspace import Workspace

MEDIA = Path(__file__).resolve().parents[2] / ".." / "shared" / "media"
TALKING = MEDIA / "talking_25fps.mp4"
NUM_FRAMES = 50
needs_media = pytest.mark.skipif(not TALKING.exists(), reason=f"needs the real clip {TALKING.name} in ../shared/media")


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Metric -> clip -> value, for the first two seconds of the face and four copies of them."""
    folder = tmp_path_factory.mktemp("real")
    # every fourth pixel of the part with the face: a talking head of 270 px
    frames = np.stack([f[420:1500:4, ::4] for (f, _), _ in zip(iter_frames(TALKING), range(NUM_FRAMES), strict=False)])
    audio = read_audio(TALKING)[: NUM_FRAMES * 640]
    frozen, black = frames.copy(), frames.copy()
    frozen[25:] = frozen[25]
    black[40:] = 0
    noise = np.random.default_rng(0).integers(-40, 41, frames.shape)
    noisy = np.clip(frames.astype(int) + noise, 0, 255).astype(np.uint8)
    muted = audio.copy()
    muted[16000:] = 0
    clips = {
        "original": (frames, audio),
        "late": (frames, np.concatenate([np.zeros(6400, np.int16), audio[:-6400]])),
        "frozen": (frozen, audio),
        "black": (black, audio),
        "noisy": (noisy, audio),
        "muted": (frames, muted),
    }
    for name, (images, sound) in clips.items():
        write_clip(folder / "clips" / "talking" / f"{name}.mp4", images, 25, sound)
    workspace = Workspace.create(folder / "ws")
    assert import_clips(workspace, folder / "clips")["candidates"] == len(clips)
    names = ["dynamic_degree", "flow_acceleration", "flicker", "freeze_ratio", "black_ratio", "silent_ratio"]
    summary = score_candidates(workspace, names)
    assert summary["not_scored"] == {} and summary["scored"] == len(clips) * len(names)

    source = {row["candidate_id"]: row["settings"] for row in workspace.rows(CANDIDATES)}
    found: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for row in workspace.rows(SCORES):
        name = next(clip for clip in clips if f'"{clip}.mp4"' in source[row["candidate_id"]])
        found[row["metric"]][name] = row["value"]
    return found


@needs_media
def test_metrics_see_the_damage(scores: dict[str, dict[str, float]]) -> None:
    assert scores["freeze_ratio"]["original"] == 0
    assert scores["freeze_ratio"]["frozen"] == pytest.approx(24 / 49, abs=1 / 49)
    assert scores["black_ratio"]["original"] == 0 and scores["black_ratio"]["black"] == pytest.approx(0.2)
    assert scores["silent_ratio"]["late"] == pytest.approx(scores["silent_ratio"]["original"] + 0.2, abs=0.05)
    assert scores["silent_ratio"]["muted"] >= 0.5
    assert scores["flicker"]["noisy"] < scores["flicker"]["original"] - 0.03
    assert scores["flow_acceleration"]["noisy"] > 2 * scores["flow_acceleration"]["original"]
    assert scores["dynamic_degree"]["frozen"] < 0.75 * scores["dynamic_degree"]["original"]


@needs_media
def test_shifted_sound_changes_nothing_that_is_seen(scores: dict[str, dict[str, float]]) -> None:
    for name in ("dynamic_degree", "flow_acceleration", "flicker", "freeze_ratio", "black_ratio"):
        assert scores[name]["late"] == scores[name]["original"]


@needs_media
def test_the_real_clip_itself_is_encoded_for_browsers(tmp_path: Path) -> None:
    assert probe(TALKING).codec == "hevc"  # which Chromium without licensed codecs does not play
    assert read_audio(TALKING).shape[0] == pytest.approx(160000, abs=400)
