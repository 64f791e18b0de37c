"""Draws COCO-18 keypoints as a skeleton in OpenPose's limb order and colours, on black.

No facial landmarks: the mouth must come from the speech, and the eyes and brows from the model.
Four times the clip's size, because video files halve the resolution of colours, and the colours say
which limb is which: at the clip's own size a model loses most of the skeleton's accuracy.
"""

import cv2
import numpy as np

from prefkit.synthetic.drawing import OVERSAMPLING, fixed_point
from prefkit.synthetic.geometry import FRAME_SIZE

_LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17))
_COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (85, 255, 0), (0, 255, 85),
    (0, 255, 255), (0, 85, 255), (85, 0, 255), (170, 0, 255), (255, 0, 170),
)  # fmt: skip


def draw_skeleton(keypoints: np.ndarray) -> np.ndarray:
    """Returns uint8 [T, 256, 256, 3] RGB from keypoints [T, 18, 3] (x, y in pixels of 64 × 64, visibility)."""
    return np.stack([_frame(points) for points in keypoints])


def _frame(points: np.ndarray) -> np.ndarray:
    size = FRAME_SIZE * OVERSAMPLING
    canvas = np.zeros((size, size, 3), np.uint8)
    for (start, end), colour in zip(_LIMBS, _COLOURS, strict=True):
        if points[start, 2] and points[end, 2]:
            ends = fixed_point(points[[start, end], :2])
            cv2.polylines(canvas, [ends], False, colour, 7, cv2.LINE_8, 4)
    return canvas
