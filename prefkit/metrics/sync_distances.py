"""From embeddings of lips and sound to lip-sync scores: arithmetic only.

The published arithmetic (Chung & Zisserman 2016, "Out of time: automated lip sync in the wild"; project
syncnet_python) compares every lip window with the sound windows up to 15 frames before and after. It
fills what lies outside the clip with zeros, which biases short clips: on unrelated features of 20
windows it still finds a Sync-C near 1. `mode="valid"` averages only over windows that exist.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.signal import medfilt

from prefkit.errors import PrefkitError

Mode = Literal["reference", "valid"]

VSHIFT = 15  # frames searched on either side
MIN_OVERLAP = 5  # windows a shift must be averaged over in "valid" mode
PIECE = 1024  # windows compared at once, so that long clips take no more memory
EPSILON = 1e-6  # added to every difference by torch.nn.functional.pairwise_distance


@dataclass(frozen=True)
class SyncDistances:
    """How far the lips are from the sound, for every shift of the sound.

    Attributes:
        shifts: int [S], frames by which the sound is read later than the lips.
        mean_distance: float [S], mean over windows of the distance at that shift.
        offset: frames, minus the shift of least distance (positive: the sound is early; sound delayed
            by k frames gives -k).
        sync_c: >= 0, median of `mean_distance` minus its minimum. Higher is better.
        sync_d: >= 0, the minimum. Lower is better. Like sync_c it does not see a constant lag.
        sync_d0: >= 0, distance without any shift: it rises with the lag. Lower is better.
        confidence: float [n], median minus the window's own distance at the best shift, median-filtered
            over nine windows as published (windows whose sound lies outside the clip are NaN in "valid").
    """

    shifts: np.ndarray
    mean_distance: np.ndarray
    offset: int
    sync_c: float
    sync_d: float
    sync_d0: float
    confidence: np.ndarray


def sync_distances(
    lip_embeddings: np.ndarray, audio_embeddings: np.ndarray, *, mode: Mode = "reference", vshift: int = VSHIFT
) -> SyncDistances:
    """Distances between windows of lips and of sound over all shifts.

    Args:
        lip_embeddings: float [n, D], one row a window of five frames.
        audio_embeddings: float [n, D], the sound of the same windows.
        mode: "reference" fills missing sound with zeros as published; "valid" uses only windows that exist
            and only shifts with at least MIN_OVERLAP of them.
        vshift: largest shift in frames.

    Raises:
        PrefkitError: "valid" with too few windows to search any shift.
    """
    windows = len(lip_embeddings)
    if mode == "valid" and windows <= MIN_OVERLAP:
        raise PrefkitError(
            f"lip-sync needs at least {MIN_OVERLAP + 1} windows to compare shifts and the clip has {windows}; "
            "give a longer clip"
        )
    reach = vshift if mode == "reference" else min(vshift, windows - MIN_OVERLAP)
    distances = distances_by_shift(lip_embeddings, audio_embeddings, vshift=reach, pad_with_zeros=mode == "reference")
    shifts = np.arange(-reach, reach + 1)
    mean_distance = np.nanmean(distances, axis=0)
    best = int(np.argmin(mean_distance))
    median = float(np.median(mean_distance))
    return SyncDistances(
        shifts=shifts,
        mean_distance=mean_distance,
        offset=-int(shifts[best]),
        sync_c=median - float(mean_distance[best]),
        sync_d=float(mean_distance[best]),
        sync_d0=float(mean_distance[reach]),
        confidence=medfilt(median - distances[:, best], kernel_size=9),
    )


def distances_by_shift(
    lip_embeddings: np.ndarray, audio_embeddings: np.ndarray, *, vshift: int, pad_with_zeros: bool
) -> np.ndarray:
    """Distance of every lip window i to the sound window i + s, for s in -vshift..vshift.

    Returns:
        float64 [n, 2 * vshift + 1]; where i + s lies outside the clip, the distance to zeros as published,
        or NaN.
    """
    windows = len(lip_embeddings)
    padded = np.pad(audio_embeddings, ((vshift, vshift), (0, 0)))
    distances = np.empty((windows, 2 * vshift + 1))
    for first in range(0, windows, PIECE):
        lips = lip_embeddings[first : first + PIECE].astype(np.float64)
        for column in range(2 * vshift + 1):
            sound = padded[first + column : first + column + len(lips)]
            distances[first : first + PIECE, column] = np.linalg.norm(lips - sound + EPSILON, axis=1)
    if pad_with_zeros:
        return distances
    index = np.arange(windows)[:, None] + np.arange(-vshift, vshift + 1)
    return np.where((index >= 0) & (index < windows), distances, np.nan)
