"""Speech features line up with the video's frames."""

import numpy as np
import torch

from prefkit.backbones.audio_features import CHANNELS, audio_features, window_features


def test_one_row_a_frame_and_louder_is_more():
    quiet = np.random.default_rng(0).normal(0, 30, 16_000).astype(np.int16)
    quiet[8000:] *= 50
    features = audio_features(quiet, 25)
    assert features.shape == (25, CHANNELS)
    assert (features[13:].mean(dim=1) > features[:12].mean(dim=1).max()).all()


def test_windows_hold_the_neighbours_and_are_clamped():
    windows = window_features(torch.arange(6.0)[:, None])[..., 0]
    assert windows[0].tolist() == [0, 0, 0, 1, 2]
    assert windows[3].tolist() == [1, 2, 3, 4, 5]
    assert windows[5].tolist() == [3, 4, 5, 5, 5]
