"""The two shipped networks and their metrics on synthetic portraits that training never saw."""

import numpy as np
import pytest

from prefkit.metrics import expression, lipsync
from prefkit.metrics.landmark_network import predict_landmarks
from prefkit.metrics.landmarks import mouth_aperture
from prefkit.metrics.loaded_networks import shipped_landmark_network
from prefkit.metrics.metric import NotScored
from prefkit.metrics.weights import SHIPPED_LANDMARKS, SHIPPED_LIPSYNC
from prefkit.synthetic.portrait import Faults, make_portrait

SEEDS = range(21_000_000, 21_000_004)
NEEDS_DEPTH = "head_pose_std"
NAMES = [metric.name for family in (lipsync, expression) for metric in family.METRICS if metric.name != NEEDS_DEPTH]
LAG_METRICS = ("sync_offset", "sync_offset_valid", "av_lag", "av_corr0", "sync_d0")


def about(portrait, **condition):
    return {"frames": portrait.frames, "audio": portrait.audio, "condition": {"synthetic": True, **condition}}


@pytest.fixture(scope="module")
def values_by_lag(score):
    """Four clips of two seconds for each lag of the sound: metric -> value."""
    portraits = {
        lag: [make_portrait(seed, num_frames=50, faults=Faults(audio_lag=lag)) for seed in SEEDS] for lag in (0, 8)
    }
    return {lag: [score(LAG_METRICS, **about(portrait)) for portrait in group] for lag, group in portraits.items()}


def test_shipped_weights_are_small():
    assert SHIPPED_LANDMARKS.stat().st_size + SHIPPED_LIPSYNC.stat().st_size < 4e6


def test_landmarks_are_near_the_truth():
    portraits = [make_portrait(seed) for seed in SEEDS]
    found = [predict_landmarks(portrait.frames, shipped_landmark_network()) for portrait in portraits]
    errors = [np.linalg.norm(f - p.landmarks, axis=-1).mean() for f, p in zip(found, portraits, strict=True)]
    assert max(errors) < 1.0


@pytest.mark.parametrize(("metric", "frames_per_lag"), [("sync_offset", -1), ("sync_offset_valid", -1), ("av_lag", 1)])
def test_delayed_sound_is_found(values_by_lag, metric, frames_per_lag):
    for on_time, late in zip(values_by_lag[0], values_by_lag[8], strict=True):
        moved = late[metric].value - on_time[metric].value
        assert abs(moved - 8 * frames_per_lag) <= 1


def test_scores_at_zero_shift_get_worse_with_the_lag(values_by_lag):
    for on_time, late in zip(values_by_lag[0], values_by_lag[8], strict=True):
        assert on_time["av_corr0"].value > late["av_corr0"].value
        assert on_time["sync_d0"].value < late["sync_d0"].value


def test_every_row_names_its_network(score):
    for name, found in score(NAMES, **about(make_portrait(21_000_000))).items():
        assert np.isfinite(found.value), name
        assert found.details["network"]["variant"] == "synthetic-portraits"
        assert len(found.details["network"]["weights"]) == 16


def test_landmarks_are_as_if_read_at_once(score):
    """Frames come in batches of 32; a clip of 40 gives what its whole gives."""
    portrait = make_portrait(21_000_000, num_frames=40)
    found = score("mouth_range", **about(portrait)).details["per_frame"]
    whole = mouth_aperture(predict_landmarks(portrait.frames, shipped_landmark_network()))
    np.testing.assert_allclose(found, whole, atol=6e-4)


@pytest.mark.parametrize("name", NAMES)
def test_real_portraits_are_not_scored_by_the_shipped_networks(score, name):
    expected = (
        ("lacking", "no SyncNet weights") if name.startswith("sync") else ("no_landmarks", "synthetic portraits only")
    )
    with pytest.raises(NotScored, match=expected[1]) as raised:
        score(name, **about(make_portrait(21_000_000, num_frames=10), synthetic=False))
    assert raised.value.kind == expected[0]


def test_a_clip_without_sound_has_expression_but_no_lip_sync(score):
    silent = about(make_portrait(21_000_000)) | {"audio": None}
    for name in ("sync_c", "av_corr0"):
        with pytest.raises(NotScored, match="no sound"):
            score(name, **silent)
    assert score("mouth_range", **silent).value > 0


def test_a_drawn_head_has_no_pose(score):
    with pytest.raises(NotScored, match="no depth"):
        score(NEEDS_DEPTH, **about(make_portrait(21_000_000, num_frames=10)))
