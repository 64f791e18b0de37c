"""Speech features at the video's frame rate, for a model too small for wav2vec2."""

import numpy as np
import torch
from python_speech_features import logfbank

SAMPLE_RATE = 16_000
COLUMNS_PER_FRAME = 2
FILTERS = 16
CHANNELS = COLUMNS_PER_FRAME * FILTERS

# of log filter-bank energies of int16 speech, so that features are about −1…1
_OFFSET, _SCALE = 14.0, 5.0


def audio_features(audio: np.ndarray, fps: float) -> torch.Tensor:
    """Log filter-bank energies, two columns a video frame.

    Args:
        audio: int16 [N], mono, 16 kHz.
        fps: frame rate of the video.

    Returns:
        float32 [N · fps / 16000, 32].
    """
    frames = round(len(audio) / SAMPLE_RATE * fps)
    step = 1 / (fps * COLUMNS_PER_FRAME)
    energies = logfbank(
        audio.astype(np.float64), SAMPLE_RATE, winlen=1.25 * step, winstep=step, nfilt=FILTERS, nfft=512
    )
    wanted = frames * COLUMNS_PER_FRAME
    # logfbank pads the last window or drops it, by its own rounding
    energies = np.pad(energies[:wanted], ((0, max(0, wanted - len(energies))), (0, 0)), mode="edge")
    return torch.from_numpy(((energies - _OFFSET) / _SCALE).reshape(frames, CHANNELS)).float()


def window_features(features: torch.Tensor, window: int = 5) -> torch.Tensor:
    """[..., T, C] -> [..., T, window, C]: each frame with its neighbours, held at the ends (as Hallo4 does)."""
    frames = features.shape[-2]
    index = torch.arange(frames)[:, None] + torch.arange(window) - window // 2
    return features[..., index.clamp(0, frames - 1), :]
