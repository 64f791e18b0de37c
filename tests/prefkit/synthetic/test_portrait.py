"""Synthetic portraits: the same from the same seed, and true to what they say of themselves."""

import numpy as np
import pytest

from prefkit.synthetic.geometry import NECK
from prefkit.synthetic.portrait import MARGIN, Faults, make_portrait
from prefkit.synthetic.speech import SAMPLE_RATE, VISEMES


def envelope(audio, num_frames):
    return np.log(audio.reshape(num_frames, -1).astype(float).std(axis=1) + 100)


def test_the_same_seed_makes_the_same_portrait_and_another_makes_another_person():
    first, again, other = make_portrait(3), make_portrait(3), make_portrait(4)
    for name in ("frames", "reference", "audio", "skeleton", "landmarks", "keypoints", "aperture", "visemes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.identity != other.identity
    assert not np.array_equal(first.frames, other.frames)


def test_shapes_and_types():
    portrait = make_portrait(0, num_frames=13)
    assert portrait.frames.shape == (13, 64, 64, 3) and portrait.skeleton.shape == (13, 256, 256, 3)
    assert portrait.frames.dtype == portrait.reference.dtype == np.uint8
    assert portrait.audio.dtype == np.int16 and len(portrait.audio) == 13 * SAMPLE_RATE // 25
    assert portrait.landmarks.shape == (13, 68, 2) and portrait.keypoints.shape == (13, 18, 3)
    assert 0 <= portrait.aperture.min() and portrait.aperture.max() <= 1


def test_the_mouth_follows_the_sound():
    correlations = [
        np.corrcoef(envelope(portrait.audio, 25), portrait.aperture)[0, 1] for portrait in map(make_portrait, range(12))
    ]
    assert np.mean(correlations) > 0.5


def test_lips_meet_in_bilabial_closures():
    closed, opened = [], []
    for portrait in map(make_portrait, range(12)):
        names = np.array(VISEMES)[portrait.visemes]
        closed += portrait.aperture[np.isin(names, ("m", "b", "p"))].tolist()
        opened += portrait.aperture[names == "a"].tolist()
    assert np.mean(closed) < 0.35 < 0.6 < np.mean(opened)


@pytest.mark.parametrize("lag", [-8, 5])
def test_a_lag_moves_the_sound_and_nothing_else(lag):
    clean, late = make_portrait(1), make_portrait(1, faults=Faults(audio_lag=lag))
    np.testing.assert_array_equal(clean.frames, late.frames)
    start = round((MARGIN - lag / 25) * SAMPLE_RATE)
    np.testing.assert_array_equal(late.audio, clean.long_audio[start : start + len(clean.audio)])


def test_a_lag_beyond_the_margin_is_refused():
    with pytest.raises(ValueError, match="audio_lag is 13 frames"):
        make_portrait(1, faults=Faults(audio_lag=13))


def test_a_muted_mouth_stays_shut():
    assert make_portrait(2, faults=Faults(mouth_gain=0)).aperture.max() == 0


def test_a_frozen_expression_keeps_eyes_and_brows_and_lets_the_mouth_speak():
    clean, frozen = make_portrait(5), make_portrait(5, faults=Faults(frozen_expression=True))
    assert np.ptp(frozen.eye_opening) == np.ptp(frozen.brow) == 0
    np.testing.assert_array_equal(clean.aperture, frozen.aperture)


def test_jitter_shakes_the_head():
    def shake(jitter):
        portrait = make_portrait(6, faults=Faults(jitter=jitter))
        return np.abs(np.diff(portrait.landmarks[:, 30], n=2, axis=0)).mean()

    assert shake(0) < shake(0.5) < shake(1.5)


def test_a_displaced_skeleton_drives_elsewhere_than_the_body_is():
    clean, displaced = make_portrait(7), make_portrait(7, faults=Faults(skeleton_shift=(4.0, -2.0)))
    np.testing.assert_array_equal(clean.frames, displaced.frames)
    moved = displaced.keypoints[:, NECK, :2] - clean.keypoints[:, NECK, :2]
    np.testing.assert_allclose(moved, [[4.0, -2.0]] * 25, atol=1e-4)
    assert not np.array_equal(clean.skeleton, displaced.skeleton)
