"""Frozen, black and silent time equal what was injected, also through a codec."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.media import read_audio, read_clip, write_clip
from prefkit.metrics.metric import NotScored
from prefkit.metrics.stillness import block_means, frozen_steps, window_rms


def lively(num_frames: int = 50, side: int = 64) -> np.ndarray:
    """A still grey picture in which a small dark 'mouth' opens and closes."""
    y, x = np.mgrid[:side, :side] / side
    frames = np.full((num_frames, side, side, 3), 150, np.uint8)
    for index in range(num_frames):
        opening = 0.03 + 0.05 * abs(np.sin(index * 0.7))
        frames[index][((x - 0.5) / 0.12) ** 2 + ((y - 0.7) / opening) ** 2 < 1] = (60, 20, 20)
    return frames


def voice(seconds: float = 2.0) -> np.ndarray:
    return (6000 * np.sin(2 * np.pi * 200 * np.arange(round(seconds * 16000)) / 16000)).astype(np.int16)


def through_a_codec(path: Path, frames: np.ndarray, audio: np.ndarray):
    write_clip(path, frames, 25, audio)
    return {"frames": read_clip(path).frames, "audio": read_audio(path)}


@pytest.fixture
def value(score):
    return lambda metric, frames, audio=None: score(metric, frames, audio=audio).value


@pytest.mark.parametrize("first", [0, 20, 37])
def test_freeze_ratio_is_the_frozen_share(value, tmp_path: Path, first: int) -> None:
    frames = lively()
    frames[first:] = frames[first]
    share = (49 - first) / 49
    assert value("freeze_ratio", frames) == pytest.approx(share)
    clip = through_a_codec(tmp_path / "clip.mp4", frames, voice())
    assert value("freeze_ratio", **clip) == pytest.approx(share, abs=1 / 49)


def test_black_ratio_is_the_black_share(value, score, tmp_path: Path) -> None:
    frames = lively()
    frames[10:25] = 0
    clip = through_a_codec(tmp_path / "clip.mp4", frames, voice())
    assert value("black_ratio", **clip) == pytest.approx(15 / 50)
    assert score("black_ratio", **clip).details["black_frames"] == list(range(10, 25))


def test_silent_ratio_is_the_silent_share(value, score, tmp_path: Path) -> None:
    audio = voice()
    audio[8000:24000] = 0
    assert value("silent_ratio", lively(), audio) == pytest.approx(0.5)
    clip = through_a_codec(tmp_path / "clip.mp4", lively(), audio)
    assert value("silent_ratio", **clip) == pytest.approx(0.5, abs=0.03)


def test_flicker_is_one_on_a_frozen_clip_and_falls_with_noise(value) -> None:
    frozen = np.repeat(lively(1), 10, axis=0)
    noise = np.random.default_rng(0).integers(-20, 21, frozen.shape)
    noisy = np.clip(frozen.astype(int) + noise, 0, 255).astype(np.uint8)
    assert value("flicker", frozen) == 1.0
    # the mean distance of two independent values of −20 … 20 is 13.66
    assert value("flicker", noisy) == pytest.approx(1 - 13.66 / 255, abs=0.002)


def test_what_is_missing_is_said(value) -> None:
    with pytest.raises(NotScored, match="no sound"):
        value("silent_ratio", lively(2))
    with pytest.raises(NotScored, match="fewer than 2 frames"):
        value("freeze_ratio", lively(1))
    with pytest.raises(NotScored, match="fewer than 2 frames"):
        value("flicker", lively(1))


def test_a_key_frame_in_a_frozen_stretch_is_no_motion() -> None:
    changes = np.array([5.0, 0.2, 2.0, 0.2, 9.0, 0.2, 2.0, 2.0])
    np.testing.assert_array_equal(frozen_steps(changes), [False, True, True, True, False, True, False, False])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_block_means_keep_the_mean(height: int, width: int, blocks: int) -> None:
    frame = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    means = block_means(frame, blocks)
    assert min(means.shape[:2]) == min(blocks, height, width)
    constant = np.full_like(frame, 77)
    np.testing.assert_allclose(block_means(constant, blocks), 77)
    assert frame.min() <= means.min() and means.max() <= frame.max()
    if height % means.shape[0] == 0 and width % means.shape[1] == 0 and max(height, width) % min(height, width) == 0:
        np.testing.assert_allclose(means.mean(axis=(0, 1)), frame.mean(axis=(0, 1)))


def test_window_rms_counts_a_short_last_window_fairly() -> None:
    np.testing.assert_allclose(window_rms(np.full(7, 16384, np.int16), 3), [0.5, 0.5, 0.5])
