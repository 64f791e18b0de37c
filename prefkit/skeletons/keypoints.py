"""Driving keypoints: their file, and their place in frames of another size."""

from pathlib import Path

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.workspace import atomic_write


def write_keypoints(path: Path, keypoints: np.ndarray, size: tuple[int, int]) -> None:
    """Writes an npz of `keypoints` [T, K, 3] (x, y, visibility) and `size`, the (height, width) that x and y are in."""
    with atomic_write(path) as temporary:
        np.savez(temporary, keypoints=keypoints, size=np.array(size))


def read_keypoints(path: str | Path, frame_size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads float [T, K, 3], x and y in pixels of a frame of `frame_size`; None for as they are stored.

    A file without a `size` is taken to be in those pixels already.

    Raises:
        PrefkitError: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = stored["keypoints"]
            size = tuple(int(side) for side in stored["size"]) if "size" in stored.files else None
    except (OSError, ValueError, KeyError) as error:
        raise PrefkitError(f"{path} cannot be read as driving keypoints ({error}); add the condition again") from None
    if found.ndim != 3 or found.shape[2] != 3:
        raise PrefkitError(f"the keypoints in {path} are of shape {list(found.shape)}; expected [T, K, 3]")
    if size is None or frame_size is None:
        return found
    return place_keypoints(found, (size[0], size[1]), frame_size)


def place_keypoints(keypoints: np.ndarray, size: tuple[int, int], frame_size: tuple[int, int]) -> np.ndarray:
    """Moves [T, K, 3] from pictures of `size` to where the backbones put them in frames of `frame_size`.

    Pictures are scaled to the frame's height; what they lack or have too much in width is at both sides alike
    (`prefkit.backbones.framing`).
    """
    if tuple(size) == tuple(frame_size):
        return keypoints
    scale = frame_size[0] / size[0]
    placed = np.array(keypoints, np.float64)
    placed[..., :2] *= scale
    placed[..., 0] += (frame_size[1] - size[1] * scale) / 2
    return placed
