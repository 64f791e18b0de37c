"""Measures from landmarks: what must not matter does not, and what was injected is found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.metrics.landmarks import (
    brow_height,
    count_blinks,
    eye_aspect_ratio,
    head_roll,
    head_speed,
    head_translation,
    landmark_jerk,
    mouth_aperture,
)

FPS = 25.0


def face(mouth=0.0, eyes=1.0, brows=0.0):
    """A frontal face [68, 2] in pixels, drawn for these tests only: inter-ocular distance 40."""
    points = np.zeros((68, 2))
    points[:17] = np.stack([np.linspace(-35, 35, 17), 50 - np.linspace(-5, 5, 17) ** 2], axis=1)
    points[17:27] = np.stack(
        [np.r_[np.linspace(-25, -5, 5), np.linspace(5, 25, 5)], np.full(10, -12.0 - brows)], axis=1
    )
    points[27:31] = np.stack([np.zeros(4), np.linspace(0, 15, 4)], axis=1)
    points[31:36] = np.stack([np.linspace(-6, 6, 5), np.full(5, 18.0)], axis=1)
    for start, centre in ((36, -14), (42, 14)):
        x = np.array([-6, -2, 2, 6, 2, -2]) + centre
        points[start : start + 6] = np.stack([x, 2.0 * eyes * np.array([0, -1, -1, 0, 1, 1])], axis=1)
    x = np.array([-10, -5, 0, 5, 10, 5, 0, -5])
    points[60:68] = np.stack([x, 30 + mouth / 2 * np.array([0, -1, -1, -1, 0, 1, 1, 1])], axis=1)
    points[48:60] = np.stack([12 * np.cos(np.linspace(0, 6, 12)), 30 + 6 * np.sin(np.linspace(0, 6, 12))], axis=1)
    return points


def talking(frames=50, amplitude=8.0):
    opening = amplitude * (1 + np.sin(np.arange(frames))) / 2
    return np.stack([face(mouth=mouth, brows=np.sin(t / 5)) for t, mouth in enumerate(opening)])


def moved(landmarks, scale, degrees, shift):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * landmarks @ turn.T + shift


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 20), st.floats(-80, 80), st.floats(-500, 500))
def test_scale_roll_and_place_do_not_matter(scale, degrees, shift):
    original = talking()
    other = moved(original, scale, degrees, shift)
    for measure in (mouth_aperture, eye_aspect_ratio, brow_height):
        np.testing.assert_allclose(measure(other), measure(original), rtol=1e-6, atol=1e-9)
    for measure in (head_speed, landmark_jerk):
        noisy = original + np.random.default_rng(0).standard_normal(original.shape)
        assert measure(moved(noisy, scale, degrees, shift), FPS) == pytest.approx(measure(noisy, FPS), rel=1e-6)
    np.testing.assert_allclose(head_roll(other) - head_roll(original), degrees, atol=1e-6)


def test_aperture_and_brows_are_in_inter_ocular_distances():
    landmarks = np.stack([face(mouth=8, brows=4), face()])
    np.testing.assert_allclose(mouth_aperture(landmarks), [0.2, 0.0], atol=1e-12)
    assert np.ptp(brow_height(landmarks)) == pytest.approx(0.1)
    assert mouth_aperture(talking(amplitude=12)).std() > mouth_aperture(talking(amplitude=6)).std() > 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 8), max_size=6), st.integers(0, 1000), st.floats(0.2, 0.6))
def test_injected_blinks_are_counted(lengths, seed, opened):
    rng = np.random.default_rng(seed)
    ratio = [opened] * 10
    for length in lengths:
        ratio += [0.3 * opened] * length + [opened] * int(rng.integers(8, 20))
    ratio = np.array(ratio) * (1 + 0.05 * rng.uniform(-1, 1, len(ratio)))
    assert count_blinks(np.concatenate([ratio, np.full(60, opened)]), FPS) == len(lengths)


def test_shut_eyes_do_not_blink():
    assert count_blinks(np.full(50, 0.3), FPS) == 0
    assert count_blinks(0.01 * np.random.default_rng(0).random(50), FPS) == 0
    assert count_blinks(np.r_[np.full(60, 0.3), np.full(20, 0.05), np.full(20, 0.3)], FPS) == 0  # 0.8 s


def test_head_motion():
    frames = np.arange(50)[:, None, None]
    sliding = np.repeat(face()[None], 50, axis=0) + frames * np.array([1.0, 0.0])  # 1 px a frame
    assert head_speed(sliding, FPS) == pytest.approx(25 / 40)
    assert landmark_jerk(sliding, FPS) == pytest.approx(0, abs=1e-6)
    assert np.ptp(head_translation(sliding)[:, 0]) == pytest.approx(49 / 40)


def test_jerk_rises_with_jitter_and_ignores_speech():
    noise = np.random.default_rng(0).standard_normal((50, 1, 2))
    jerks = [landmark_jerk(talking() + jitter * noise, FPS) for jitter in (0.0, 0.1, 0.5, 2.0)]
    assert jerks == sorted(jerks)
    assert jerks[0] == pytest.approx(0, abs=1e-6)
    assert jerks[1] > 1
