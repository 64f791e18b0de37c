"""Reads the truth back from a clip of a synthetic portrait, by colour: the judge that nobody votes with.

The mouth's inside and the worn markers have colours that nothing else has (drawing.py). No network,
no landmarks: what this reads is independent of the simulated annotators and of the metrics.
"""

from dataclasses import dataclass

import numpy as np

from prefkit.synthetic.drawing import BROOCH, EARRING, MOUTH_INSIDE, WRISTBAND
from prefkit.synthetic.geometry import EARS, FRAME_SIZE, NECK, NOSE, WRISTS

_MOUTH_REACH = (9, 3, 17)  # pixels from the driven nose: to either side, from, to (downwards)
_MARKER_REACH = 8.0  # pixels around the driven keypoint


@dataclass(frozen=True)
class Reading:
    """What a clip shows.

    Attributes:
        mouth_area: [T] area of the mouth's inside in square pixels.
        keypoints: [T, 5, 2] x, y of earrings, brooch and wristbands; NaN where none is seen.
        eye_whites: [T] area of the eyes' whites in square pixels.
    """

    mouth_area: np.ndarray
    keypoints: np.ndarray
    eye_whites: np.ndarray


def read_truth(frames: np.ndarray, keypoints: np.ndarray) -> Reading:
    """Reads a clip.

    Args:
        frames: uint8 [T, 64, 64, 3] RGB.
        keypoints: float [T, 18, 3], those that drove the clip; they say where to look.
    """
    nose = keypoints[:, NOSE, :2]
    mouth = _window(nose, -_MOUTH_REACH[0], _MOUTH_REACH[0], _MOUTH_REACH[1], _MOUTH_REACH[2])
    eyes = _window(nose, -13, 13, -12, -3)
    markers = [_marker(frames, keypoints[:, ear, :2] + (0, 3), EARRING, 5.0) for ear in EARS]
    markers += [_marker(frames, keypoints[:, NECK, :2] + (0, 5.5), BROOCH, _MARKER_REACH)]
    markers += [_marker(frames, keypoints[:, wrist, :2], WRISTBAND, _MARKER_REACH) for wrist in WRISTS]
    return Reading(
        mouth_area=(_likeness(frames, MOUTH_INSIDE, 110.0) * mouth).sum(axis=(1, 2)),
        keypoints=np.stack(markers, axis=1),
        eye_whites=(_likeness(frames, (244, 242, 238), 60.0) * eyes).sum(axis=(1, 2)),
    )


def lip_sync(mouth_area: np.ndarray, aperture: np.ndarray) -> float:
    """Correlation of what the mouth does with what it should do, −1…1; 0 where the mouth never moves."""
    if mouth_area.std() < 1e-6 or aperture.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(mouth_area, aperture)[0, 1])


def keypoint_error(seen: np.ndarray, keypoints: np.ndarray) -> float:
    """Mean distance in pixels of the markers from where the skeleton puts them; unseen ones count 8 pixels.

    Wristbands count only in frames where the skeleton has them well inside the picture.
    """
    wanted = keypoints[:, (*EARS, NECK, *WRISTS), :2] + np.array([(0, 3), (0, 3), (0, 5.5), (0, 0), (0, 0)])
    inside = (wanted[..., 0] > 3) & (wanted[..., 0] < FRAME_SIZE - 4) & (wanted[..., 1] < FRAME_SIZE - 4)
    distance = np.linalg.norm(seen - wanted, axis=-1)
    return float(np.nan_to_num(distance, nan=_MARKER_REACH)[inside].mean())


def head_motion(seen: np.ndarray) -> float:
    """Mean speed of the head in pixels a frame, from the middle of the earrings.

    NaN if they are never both seen in two frames running.
    """
    speeds = np.linalg.norm(np.diff(seen[:, :2].mean(axis=1), axis=0), axis=1)
    seen_twice = speeds[~np.isnan(speeds)]
    return float(seen_twice.mean()) if len(seen_twice) else float("nan")


def count_blinks(eye_whites: np.ndarray, fps: float) -> float:
    """Blinks a second: times when the whites fall under half of their 90th percentile."""
    shut = eye_whites < 0.5 * np.percentile(eye_whites, 90)
    starts = np.flatnonzero(shut & ~np.concatenate([[False], shut[:-1]]))
    return len(starts) * fps / len(eye_whites)


def _likeness(frames: np.ndarray, colour: tuple[int, int, int], reach: float) -> np.ndarray:
    """[T, H, W] 1 at the colour, falling to 0 at a distance of `reach`."""
    distance = np.linalg.norm(frames.astype(np.float32) - np.array(colour, np.float32), axis=-1)
    return np.clip(1 - distance / reach, 0, 1)


def _window(centre: np.ndarray, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    """[T, 64, 64] True inside a box around `centre` [T, 2]."""
    y, x = np.mgrid[:FRAME_SIZE, :FRAME_SIZE]
    dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
    return (dx >= left) & (dx <= right) & (dy >= top) & (dy <= bottom)


def _marker(frames: np.ndarray, expected: np.ndarray, colour: tuple[int, int, int], reach: float) -> np.ndarray:
    """[T, 2] centroid of the colour near where it is expected; NaN where there is too little of it."""
    weight = _likeness(frames, colour, 90.0) * _window(expected, -reach, reach, -reach, reach)
    mass = weight.sum(axis=(1, 2))
    y, x = np.mgrid[:FRAME_SIZE, :FRAME_SIZE]
    with np.errstate(invalid="ignore", divide="ignore"):
        centroid = np.stack([(weight * x).sum(axis=(1, 2)), (weight * y).sum(axis=(1, 2))], axis=1) / mass[:, None]
    centroid[mass < 0.6] = np.nan
    return centroid
