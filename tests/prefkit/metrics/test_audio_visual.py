"""The lag of mouth and sound is found, and the correlation falls with it."""

import numpy as np
import pytest

from prefkit.metrics.audio_visual import energy_envelope, mouth_sound_lag
from prefkit.metrics.landmarks import mouth_aperture
from prefkit.synthetic.portrait import Faults, make_portrait


def measured(seed, lag, frames=50):
    portrait = make_portrait(20_000_000 + seed, num_frames=frames, faults=Faults(audio_lag=lag))
    envelope = energy_envelope(portrait.audio, frames, 25.0)
    return mouth_sound_lag(mouth_aperture(portrait.landmarks.astype(np.float64)), envelope)


@pytest.mark.parametrize("lag", [-5, 0, 8])
def test_lag_of_synthetic_speech_is_found(lag):
    assert abs(measured(1, lag).lag - lag) <= 1


def test_correlation_at_zero_falls_with_the_lag():
    means = [np.mean([measured(seed, lag).correlation_at_zero for seed in range(4)]) for lag in range(4)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.5 > 0.2 > means[3]


def test_envelope_is_aligned_to_the_middle_of_frames():
    audio = np.zeros(25 * 640, np.int16)
    audio[10 * 640 : 11 * 640] = 5000  # exactly frame 10
    envelope = energy_envelope(audio, 25, 25.0)
    assert int(np.argmax(envelope)) == 10
    assert envelope[9] == pytest.approx(envelope[11], abs=0.02)


def test_sound_may_be_shorter_than_the_clip_or_silent():
    assert energy_envelope(np.zeros(100, np.int16), 25, 25.0).shape == (25,)
    assert np.isnan(mouth_sound_lag(np.arange(25.0), energy_envelope(np.zeros(16000, np.int16), 25, 25.0))[0])
    assert np.isnan(mouth_sound_lag(np.zeros(25), np.arange(25.0)).correlation_at_zero)
