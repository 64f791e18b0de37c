"""The two shipped networks and their metrics on synthetic portraits that training never saw."""

import dataclasses

import numpy as np
import pytest

from prefkit.media import Clip
from prefkit.metrics import expression, lipsync
from prefkit.metrics.landmark_network import predict_landmarks
from prefkit.metrics.loaded_networks import shipped_landmark_network
from prefkit.metrics.metric import NotScored, ScoredClip
from prefkit.metrics.syncnet import SyncNet, SyncNetConfig
from prefkit.metrics.weights import SHIPPED_LANDMARKS, SHIPPED_LIPSYNC, save_weights
from prefkit.synthetic.portrait import Faults, make_portrait

SEEDS = range(21_000_000, 21_000_004)
METRICS = {metric.name: metric for family in (lipsync, expression) for metric in family.METRICS}


def scored_clip(portrait, **condition):
    clip = Clip(portrait.frames, 25.0, np.arange(len(portrait.frames)) / 25)
    return ScoredClip(clip, portrait.audio, {"synthetic": True, **condition})


def value(name, scored):
    return METRICS[name].score(scored).value


@pytest.fixture(scope="module")
def clips_by_lag():
    """Four clips of two seconds for each lag of the sound."""
    return {
        lag: [scored_clip(make_portrait(seed, num_frames=50, faults=Faults(audio_lag=lag))) for seed in SEEDS]
        for lag in (0, 8)
    }


def test_shipped_weights_are_small():
    assert SHIPPED_LANDMARKS.stat().st_size + SHIPPED_LIPSYNC.stat().st_size < 4e6


def test_landmarks_are_near_the_truth():
    portraits = [make_portrait(seed) for seed in SEEDS]
    found = [predict_landmarks(portrait.frames, shipped_landmark_network()) for portrait in portraits]
    errors = [np.linalg.norm(f - p.landmarks, axis=-1).mean() for f, p in zip(found, portraits, strict=True)]
    assert max(errors) < 1.0


@pytest.mark.parametrize(("metric", "frames_per_lag"), [("sync_offset", -1), ("sync_offset_valid", -1), ("av_lag", 1)])
def test_delayed_sound_is_found(clips_by_lag, metric, frames_per_lag):
    for on_time, late in zip(clips_by_lag[0], clips_by_lag[8], strict=True):
        moved = value(metric, late) - value(metric, on_time)
        assert abs(moved - 8 * frames_per_lag) <= 1


def test_scores_at_zero_shift_get_worse_with_the_lag(clips_by_lag):
    for on_time, late in zip(clips_by_lag[0], clips_by_lag[8], strict=True):
        assert value("av_corr0", on_time) > value("av_corr0", late)
        assert value("sync_d0", on_time) < value("sync_d0", late)


def test_injected_faults_move_their_metric():
    def mean(name, **faults):
        return np.mean([value(name, scored_clip(make_portrait(seed, faults=Faults(**faults)))) for seed in SEEDS])

    ranges = [mean("mouth_range", mouth_gain=gain) for gain in (0.0, 0.5, 1.0)]
    assert ranges == sorted(ranges)
    jerks = [mean("landmark_jerk", jitter=jitter) for jitter in (0.0, 0.5, 1.5)]
    assert jerks == sorted(jerks)
    assert mean("eye_range", frozen_expression=True) < 0.5 * mean("eye_range")
    assert mean("brow_range", frozen_expression=True) < mean("brow_range")
    assert mean("blink_rate", frozen_expression=True) == 0


def test_every_row_names_its_network():
    scored = scored_clip(make_portrait(21_000_000))
    for metric in METRICS.values():
        found = metric.score(scored)
        assert np.isfinite(found.value)
        assert found.details["network"]["variant"] == "synthetic-portraits"
        assert len(found.details["network"]["weights"]) == 16


def test_real_portraits_are_not_scored_by_the_shipped_networks():
    portrait = make_portrait(21_000_000)
    scored = scored_clip(portrait, synthetic=False)
    for metric in METRICS.values():
        reason = "no SyncNet weights" if metric.name.startswith("sync") else "synthetic portraits only"
        with pytest.raises(NotScored, match=reason):
            metric.score(scored)


def test_a_clip_without_sound_has_expression_but_no_lip_sync():
    portrait = make_portrait(21_000_000)
    silent = ScoredClip(scored_clip(portrait).clip, None, {"synthetic": True})
    for name in ("sync_c", "av_corr0"):
        with pytest.raises(NotScored, match="no sound"):
            value(name, silent)
    assert value("mouth_range", silent) > 0


def test_weights_that_the_user_names_score_face_crops_of_their_size(tmp_path):
    config = SyncNetConfig(
        frame_size=64, audio_widths=(4,) * 6, lip_widths=(4,) * 6, hidden=8, embedding=8, variant="x"
    )
    save_weights(tmp_path / "x.safetensors", SyncNet(config).state_dict(), dataclasses.asdict(config))
    scored = scored_clip(make_portrait(21_000_000), synthetic=False)
    named = dataclasses.replace(scored, weights={"syncnet": tmp_path / "x.safetensors"})
    assert METRICS["sync_d"].score(named).details["network"]["variant"] == "x"

    wide = dataclasses.replace(named.clip, frames=np.zeros((25, 64, 80, 3), np.uint8))
    with pytest.raises(NotScored, match="no 64×64 face crops"):
        value("sync_d", dataclasses.replace(named, clip=wide, _computed={}))
    with pytest.raises(NotScored, match="30 frames a second"):
        value("sync_d", dataclasses.replace(named, clip=dataclasses.replace(named.clip, fps=30.0), _computed={}))
