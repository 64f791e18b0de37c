"""From boxes on some frames to one smooth face track, and its crops: arithmetic only.

As published with SyncNet (project syncnet_python, run_pipeline): boxes belong to one face while they
overlap by more than half and are not missed for longer than 25 frames, boxes between detections are
interpolated, size and centre go through a median of 13 frames, and the crop reaches 0.4 of the half size
beyond the box, more below, where the mouth is. Boxes are left, top, right, bottom in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

OVERLAP = 0.5  # intersection over union
MOST_MISSED = 25  # frames
MEDIAN_FRAMES = 13
CROP_SCALE = 0.4
PADDING = 110  # grey beside the picture
STEADY = 0.8  # of the longest track: shorter ones are passers-by or mistakes, however large


@dataclass(frozen=True)
class Sample:
    """What was found on one frame: its index, boxes [N, 4], and whether a cut lies between it and the last sample."""

    frame: int
    boxes: np.ndarray
    after_cut: bool = False


@dataclass(frozen=True)
class FaceTrack:
    """One face over frames first … first + len(boxes) − 1.

    Attributes:
        first: index of its first frame.
        boxes: float64 [n, 4], smoothed.
        details: how many faces there were and which this is, for the row.
    """

    first: int
    boxes: np.ndarray
    details: dict[str, object] = field(default_factory=dict)


def intersection_over_union(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of a box [4] with each of [N, 4]: [N] in 0–1."""
    left_top = np.maximum(box[:2], others[:, :2])
    right_bottom = np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(right_bottom - left_top, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1)
    return common / np.maximum(area - common, 1e-9)


def link(samples: Sequence[Sample]) -> list[list[tuple[int, np.ndarray]]]:
    """Joins boxes that are the same face: a list of (frame, box) in order of time for each face."""
    done: list[list[tuple[int, np.ndarray]]] = []
    active: list[list[tuple[int, np.ndarray]]] = []
    for sample in samples:
        lost = [track for track in active if sample.after_cut or sample.frame - track[-1][0] > MOST_MISSED]
        done += lost
        active = [track for track in active if not any(track is other for other in lost)]
        left = np.ones(len(sample.boxes), bool)
        for track in active:
            overlaps = np.where(left, intersection_over_union(track[-1][1], sample.boxes), 0.0)
            if len(overlaps) and overlaps.max() > OVERLAP:
                best = int(overlaps.argmax())
                track.append((sample.frame, sample.boxes[best]))
                left[best] = False
        active += [[(sample.frame, box)] for box in sample.boxes[left]]
    return done + active


def face_track(samples: Sequence[Sample], num_frames: int, stride: int) -> FaceTrack | None:
    """The largest steady face of a clip; None where there is none.

    Among the tracks found nearly as often as the longest, the one with the largest mean area. A track is
    drawn out to the clip's or the scene's end where less than a stride of frames is missing.
    """
    faces = link(samples)
    if not faces:
        return None
    cuts = _cuts(samples)
    spans = [_span(face, cuts, num_frames, stride) for face in faces]
    longest = max(len(face) for face in faces)
    steady = [index for index, face in enumerate(faces) if len(face) >= STEADY * longest]
    best = max(steady, key=lambda index: float(np.mean([np.prod(box[2:] - box[:2]) for _, box in faces[index]])))
    first, last = spans[best]
    at, boxes = np.array([frame for frame, _ in faces[best]]), np.stack([box for _, box in faces[best]])
    frames = np.arange(first, last)
    filled = np.stack([np.interp(frames, at, boxes[:, side]) for side in range(4)], axis=1)
    details = {
        "faces": len(faces),
        "frames": [first, last - 1],
        "samples_with_this_face": len(at),
        "samples": len(samples),
    }
    return FaceTrack(first, smoothed(filled), details)


def smoothed(boxes: np.ndarray, frames: int = MEDIAN_FRAMES) -> np.ndarray:
    """Median of size and centre over `frames` frames (fewer in a shorter track): square boxes [n, 4]."""
    from scipy.signal import medfilt

    window = min(frames, len(boxes) - (len(boxes) + 1) % 2)  # odd
    half = np.max(boxes[:, 2:] - boxes[:, :2], axis=1) / 2
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    half, x, y = (medfilt(series, window) for series in (half, x, y))
    return np.stack([x - half, y - half, x + half, y + half], axis=1)


def crop(frame: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The published crop around a smoothed box, uint8 [H, W, 3] -> uint8 [size, size, 3]; grey beside the picture."""
    import cv2

    half = (box[2] - box[0]) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    top, bottom = int(y - half), int(y + half * (1 + 2 * CROP_SCALE))
    left, right = int(x - half * (1 + CROP_SCALE)), int(x + half * (1 + CROP_SCALE))
    height, width = frame.shape[:2]
    inside = frame[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    outside = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    if any(outside):
        inside = cv2.copyMakeBorder(inside, *outside, cv2.BORDER_CONSTANT, value=(PADDING,) * 3)
    return cv2.resize(inside, (size, size))


def ticks(timestamps: np.ndarray, first: int, last: int, fps: float) -> np.ndarray:
    """Which frame is nearest to each of the times 0, 1/fps, 2/fps … after frame `first`, up to frame `last`.

    Args:
        timestamps: float64 [T] seconds.
        first: index of the frame that the grid starts with.
        last: index of the last frame to use.
        fps: of the grid.

    Returns:
        int64 [n], indices into `timestamps`, never falling. At a rate of `fps` they are first … last.
    """
    times = timestamps[first : last + 1] - timestamps[first]
    count = int(np.floor(times[-1] * fps + 0.5)) + 1
    grid = np.arange(count) / fps
    after = np.clip(np.searchsorted(times, grid), 1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.full(count, first)
    nearer = np.where(grid - times[after - 1] <= times[after] - grid, after - 1, after)
    return first + nearer


def _cuts(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """(last sampled frame before, first sampled frame after) each cut."""
    pairs = zip(samples[:-1], samples[1:], strict=True)
    return [(before.frame, after.frame) for before, after in pairs if after.after_cut]


def _span(
    face: list[tuple[int, np.ndarray]], cuts: Sequence[tuple[int, int]], num_frames: int, stride: int
) -> tuple[int, int]:
    """First frame and one after the last."""
    first, last = face[0][0], face[-1][0]
    starts = [after for _, after in cuts] + [0]
    if first not in starts and first <= stride:
        first = 0
    ends = [before for before, _ in cuts]
    if last not in ends and num_frames - 1 - last <= stride:
        last = num_frames - 1
    return first, last + 1
