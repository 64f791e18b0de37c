"""Frames and keypoints at another frame rate."""

import numpy as np

from prefkit.errors import PrefkitError

SAME_RATE = 0.01  # containers round frame rates


def resample_frames(frames: np.ndarray, fps: float, wanted: float) -> np.ndarray:
    """[T, ...] at `fps` -> [T · wanted / fps, ...] at `wanted`: the nearest frames, none mixed.

    Raises:
        PrefkitError: a frame rate is not positive.
    """
    if abs(fps - wanted) < SAME_RATE:
        return frames
    at, _ = _times(len(frames), fps, wanted)
    return frames[np.round(at).astype(int)]


def resample_keypoints(keypoints: np.ndarray, fps: float, wanted: float) -> np.ndarray:
    """[T, K, 3] at `fps` -> at `wanted`: x and y on the line between two frames that both show the point.

    Raises:
        PrefkitError: a frame rate is not positive.
    """
    if abs(fps - wanted) < SAME_RATE:
        return keypoints
    at, last = _times(len(keypoints), fps, wanted)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, last)
    share = (at - before)[:, None, None]
    between = (1 - share) * keypoints[before] + share * keypoints[after]
    nearest = keypoints[np.round(at).astype(int)]
    both = (keypoints[before, :, 2] > 0) & (keypoints[after, :, 2] > 0)
    return np.where(both[..., None], between, nearest).astype(keypoints.dtype)


def _times(frames: int, fps: float, wanted: float) -> tuple[np.ndarray, int]:
    """Where the wanted frames lie, in frames of the source, and its last frame."""
    if fps <= 0 or wanted <= 0:
        raise PrefkitError(f"found a frame rate of {min(fps, wanted):g} per second; expected more than 0")
    count = max(1, round(frames * wanted / fps))
    return np.minimum(np.arange(count) * fps / wanted, frames - 1), frames - 1
