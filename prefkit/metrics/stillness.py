"""Defects that need no weights: flicker, and the shares of frozen, black and silent time."""

import numpy as np

from prefkit.media import SAMPLE_RATE
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip

FREEZE_BLOCKS = 16  # along the short side: means of blocks hide a codec's noise and keep a moving mouth
# Grey levels that no block exceeds from a frame to its repetition. Measured on H.264: a talking face 64–512 px wide
# stays above 1.5; repeated frames stay below 0.9, but key frames among them, coded anew, reach 1.6 at 64 px.
FREEZE_DIFFERENCE = 1.0
FREEZE_KEY_FRAME = 3.0
BLACK_LUMA = 16.0  # full-range grey levels (0–255)
SILENCE_RMS = 1e-3  # of full scale, −60 dB
SILENCE_WINDOW = 0.02  # seconds


def frame_differences(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of neighbouring frames, uint8 [T, H, W, 3] -> float64 [T − 1] in [0, 255]."""
    pairs = zip(frames[:-1], frames[1:], strict=True)
    return np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in pairs], np.float64)


def block_means(frame: np.ndarray, blocks: int = FREEZE_BLOCKS) -> np.ndarray:
    """Means of nearly square blocks, `blocks` of them along the short side, [H, W, 3] -> float64 [h, w, 3]."""
    edge = max(1.0, min(frame.shape[:2]) / blocks)
    rows, columns = (np.unique((np.arange(round(side / edge)) * edge).astype(int)) for side in frame.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(frame, rows, axis=0, dtype=np.int64), columns, axis=1)
    heights, widths = np.diff([*rows, frame.shape[0]]), np.diff([*columns, frame.shape[1]])
    return sums / (heights[:, None, None] * widths[None, :, None])


def block_changes(frames: np.ndarray) -> np.ndarray:
    """The greatest change of any block between neighbouring frames, uint8 [T, H, W, 3] -> float64 [T − 1]."""
    means = [block_means(frame) for frame in frames]
    return np.array([np.abs(b - a).mean(axis=-1).max() for a, b in zip(means[:-1], means[1:], strict=True)])


def frozen_steps(changes: np.ndarray) -> np.ndarray:
    """Which steps from frame to frame show no motion, float64 [T − 1] -> bool [T − 1].

    A small change between two frozen steps is a key frame coded anew, not motion.
    """
    frozen = changes < FREEZE_DIFFERENCE
    key_frames = (changes < FREEZE_KEY_FRAME)[1:-1] & frozen[:-2] & frozen[2:]
    frozen[1:-1] |= key_frames
    return frozen


def luma(frames: np.ndarray) -> np.ndarray:
    """Mean brightness (Rec. 601) of each frame, uint8 [T, H, W, 3] -> float64 [T] in [0, 255]."""
    return np.array([frame.reshape(-1, 3).mean(axis=0) for frame in frames]) @ np.array([0.299, 0.587, 0.114])


def window_rms(audio: np.ndarray, window: int) -> np.ndarray:
    """Root mean square of consecutive windows, int16 [N] -> float64 [ceil(N / window)] in [0, 1]."""
    padded = np.zeros(-(-len(audio) // window) * window)
    padded[: len(audio)] = audio / 32768.0
    counts = np.minimum(window, len(audio) - window * np.arange(len(padded) // window))
    return np.sqrt((padded.reshape(-1, window) ** 2).sum(axis=1) / counts)


def _flicker(scored: ScoredClip) -> Measurement:
    if len(scored.clip.frames) < 2:
        raise NotScored("the clip has fewer than 2 frames")
    return Measurement(1.0 - float(frame_differences(scored.clip.frames).mean()) / 255.0)


def _freeze_ratio(scored: ScoredClip) -> Measurement:
    if len(scored.clip.frames) < 2:
        raise NotScored("the clip has fewer than 2 frames")
    frozen = frozen_steps(block_changes(scored.clip.frames))
    return Measurement(float(frozen.mean()), {"frozen_frames": (np.flatnonzero(frozen) + 1).tolist()})


def _black_ratio(scored: ScoredClip) -> Measurement:
    black = luma(scored.clip.frames) < BLACK_LUMA
    return Measurement(float(black.mean()), {"black_frames": np.flatnonzero(black).tolist()})


def _silent_ratio(scored: ScoredClip) -> Measurement:
    sound = scored.sound()
    if not len(sound):
        raise NotScored("the clip has no sound")
    return Measurement(float((window_rms(sound, round(SILENCE_WINDOW * SAMPLE_RATE)) < SILENCE_RMS).mean()))


METRICS = [
    Metric(
        name="flicker",
        version="1",
        direction="higher",
        unit="",
        needs=("frames",),
        source="VBench (arXiv 2311.17982), temporal flickering",
        description="1 − mean absolute difference of neighbouring frames / 255, in [0, 1]; read beside dynamic_degree",
        score=_flicker,
    ),
    Metric(
        name="freeze_ratio",
        version="1",
        direction="lower",
        unit="",
        needs=("frames",),
        source="prefkit",
        description="share of steps from one frame to the next in which nothing moves",
        score=_freeze_ratio,
    ),
    Metric(
        name="black_ratio",
        version="1",
        direction="lower",
        unit="",
        needs=("frames",),
        source="prefkit",
        description=f"share of frames whose mean brightness is below {BLACK_LUMA:g} of 255",
        score=_black_ratio,
    ),
    Metric(
        name="silent_ratio",
        version="1",
        direction="lower",
        unit="",
        needs=("sound",),
        source="prefkit",
        description="share of 20 ms windows whose sound is below −60 dB of full scale",
        score=_silent_ratio,
    ),
]
