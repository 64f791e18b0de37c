"""Draws the keypoints of synthetic portraits as a skeleton of eleven limbs, on black.

No facial landmarks: the mouth must come from the speech, and the eyes and brows from the model.
Four times the clip's size, because video files halve the resolution of colours, and the colours say
which limb is which: at the clip's own size a model loses most of the skeleton's accuracy.
"""

import numpy as np

from prefkit.skeletons.drawing import draw_lines
from prefkit.synthetic.drawing import OVERSAMPLING
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
    on_canvas = np.concatenate([(points[:, :2].astype(np.float64) + 0.5) * OVERSAMPLING - 0.5, points[:, 2:]], axis=1)
    draw_lines(canvas, on_canvas, _LIMBS, _COLOURS, 7)
    return canvas
