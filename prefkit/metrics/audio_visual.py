"""Whether the mouth opens when the sound is loud: arithmetic only, and no weights beyond landmarks."""

from typing import NamedTuple

import numpy as np

FLOOR = 1e-3  # of the loudest frame's energy (-30 dB): what is quieter counts as silence
MAX_LAG = 15  # frames


class Lag(NamedTuple):
    """Mouth against sound.

    Attributes:
        correlation_at_zero: Pearson's r without any shift, in [-1, 1]; NaN where mouth or sound is constant.
        lag: frames by which the sound comes after the mouth, where they correlate best (positive: sound late).
        correlation_at_lag: the correlation there.
    """

    correlation_at_zero: float
    lag: int
    correlation_at_lag: float


def energy_envelope(audio: np.ndarray, num_frames: int, fps: float, sample_rate: int = 16000) -> np.ndarray:
    """How loud the sound is at each video frame.

    Args:
        audio: int16 [N] mono, its first sample at the start of the first frame.
        num_frames: T.
        fps: frames a second.
        sample_rate: samples a second.

    Returns:
        float64 [T]: log10 of the energy under a Hann window two frames long around the middle of each
        frame, with a floor 30 dB below the loudest frame, smoothed by (1, 2, 1) / 4.
    """
    length = round(2 * sample_rate / fps)
    window = np.hanning(length + 2)[1:-1]
    middles = np.round((np.arange(num_frames) + 0.5) * sample_rate / fps).astype(int)
    padded = np.pad(audio.astype(np.float64), (length, max(0, int(middles[-1]) + length - len(audio))))
    starts = middles + length - length // 2
    energy = np.array([window @ padded[start : start + length] ** 2 for start in starts]) / window.sum()
    loudness = np.log10(energy + FLOOR * max(float(energy.max()), 1.0))
    return np.convolve(np.pad(loudness, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")


def mouth_sound_lag(aperture: np.ndarray, envelope: np.ndarray, max_lag: int = MAX_LAG) -> Lag:
    """Correlates the mouth's aperture [T] with the sound's envelope [T] over shifts.

    Only frames that both have are compared, and only shifts that leave half of the clip.
    """
    reach = min(max_lag, len(aperture) // 2)
    correlations = {lag: _correlation_at(aperture, envelope, lag) for lag in range(-reach, reach + 1)}
    known = {lag: value for lag, value in correlations.items() if np.isfinite(value)}
    best = max(known, key=lambda lag: known[lag], default=0)
    return Lag(correlations[0], best, correlations[best])


def _correlation_at(aperture: np.ndarray, envelope: np.ndarray, lag: int) -> float:
    """Pearson's r of aperture[t] and envelope[t + lag]."""
    frames = len(aperture) - abs(lag)
    mouth = aperture[max(0, -lag) : max(0, -lag) + frames]
    sound = envelope[max(0, lag) : max(0, lag) + frames]
    if frames < 2 or np.ptp(mouth) < 1e-9 or np.ptp(sound) < 1e-9:
        return float("nan")
    return float(np.corrcoef(mouth, sound)[0, 1])
