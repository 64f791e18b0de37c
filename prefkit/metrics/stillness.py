"""Defects that need no weights: flicker, and the shares of frozen, black and silent time."""

import numpy as np

from prefkit.media import SAMPLE_RATE
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip
from prefkit.metrics.readers import each_frame, each_step

FREEZE_BLOCKS = 16  # along the short side: means of blocks hide a codec's noise and keep a moving mouth
# Grey levels that no block exceeds from a frame to its repetition. Measured on H.264: a talking face 64–512 px wide
# stays above 1.5; repeated frames stay below 0.9, but key frames among them, coded anew, reach 1.6 at 64 px.
FREEZE_DIFFERENCE = 1.0
FREEZE_KEY_FRAME = 3.0
BLACK_LUMA = 16.0  # full-range grey levels (0–255)
SILENCE_RMS = 1e-3  # of full scale, −60 dB
SILENCE_WINDOW = 0.02  # seconds


def frame_difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two frames, uint8 [H, W, 3] each, in [0, 255]."""
    return float((np.maximum(before, after) - np.minimum(before, after)).mean())


def block_means(frame: np.ndarray, blocks: int = FREEZE_BLOCKS) -> np.ndarray:
    """Means of nearly square blocks, `blocks` of them along the short side, [H, W, 3] -> float64 [h, w, 3]."""
    height, width = frame.shape[:2]
    edge = max(1.0, min(height, width) / blocks)
    rows, columns = (np.unique((np.arange(round(side / edge)) * edge).astype(int)) for side in (height, width))
    heights, widths = np.diff([*rows, height]), np.diff([*columns, width])
    # whole rows are added up first, without a copy of the frame in a wider type
    bands = [frame[top : top + tall].sum(axis=0, dtype=np.uint32) for top, tall in zip(rows, heights, strict=True)]
    sums = np.add.reduceat(np.stack(bands).astype(np.int64), columns, axis=1)
    return sums / (heights[:, None, None] * widths[None, :, None])


def block_change(before: np.ndarray, after: np.ndarray) -> float:
    """The greatest change of any block between two frames' `block_means`."""
    return float(np.abs(after - before).mean(axis=-1).max())


def frozen_steps(changes: np.ndarray) -> np.ndarray:
    """Which steps from frame to frame show no motion, float64 [T − 1] -> bool [T − 1].

    A small change between two frozen steps is a key frame coded anew, not motion.
    """
    frozen = changes < FREEZE_DIFFERENCE
    key_frames = (changes < FREEZE_KEY_FRAME)[1:-1] & frozen[:-2] & frozen[2:]
    frozen[1:-1] |= key_frames
    return frozen


def luma(frame: np.ndarray) -> float:
    """Mean brightness (Rec. 601) of a frame, uint8 [H, W, 3], in [0, 255]."""
    means = frame.sum(axis=0, dtype=np.uint32).sum(axis=0, dtype=np.int64) / (frame.shape[0] * frame.shape[1])
    return float(means @ np.array([0.299, 0.587, 0.114]))


def window_rms(audio: np.ndarray, window: int) -> np.ndarray:
    """Root mean square of consecutive windows, int16 [N] -> float64 [ceil(N / window)] in [0, 1]."""
    padded = np.zeros(-(-len(audio) // window) * window)
    padded[: len(audio)] = audio / 32768.0
    counts = np.minimum(window, len(audio) - window * np.arange(len(padded) // window))
    return np.sqrt((padded.reshape(-1, window) ** 2).sum(axis=1) / counts)


DIFFERENCES = each_step(frame_difference)
BLOCK_CHANGES = each_step(block_change, block_means)
LUMA = each_frame(luma)


def _flicker(scored: ScoredClip) -> Measurement:
    differences = scored.seen(DIFFERENCES)
    if not len(differences):
        raise NotScored("too_short", "the clip has fewer than 2 frames")
    return Measurement(1.0 - float(differences.mean()) / 255.0)


def _freeze_ratio(scored: ScoredClip) -> Measurement:
    changes = scored.seen(BLOCK_CHANGES)
    if not len(changes):
        raise NotScored("too_short", "the clip has fewer than 2 frames")
    frozen = frozen_steps(changes)
    return Measurement(float(frozen.mean()), {"frozen_frames": (np.flatnonzero(frozen) + 1).tolist()})


def _black_ratio(scored: ScoredClip) -> Measurement:
    black = scored.seen(LUMA) < BLACK_LUMA
    return Measurement(float(black.mean()), {"black_frames": np.flatnonzero(black).tolist()})


def _silent_ratio(scored: ScoredClip) -> Measurement:
    sound = scored.sound()
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
        reads=(DIFFERENCES,),
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
        reads=(BLOCK_CHANGES,),
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
        reads=(LUMA,),
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
