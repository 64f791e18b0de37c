"""Keypoints drawn as a skeleton on black, in the style of DWPose's frames, at any size.

18 body points in OpenPose's order; 128 have 68 of the face (iBUG's order) and 21 of each hand behind them. The
mouth is left out, as in Hallo4's frames: it must follow the speech.

Source of the order, limbs and colours: OpenPose (Cao et al. 2017); DWPose (arXiv 2307.15880).
"""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from prefkit.errors import PrefkitError

Colour = tuple[int, int, int]

BODY, FACE, HANDS = slice(0, 18), slice(18, 86), (slice(86, 107), slice(107, 128))
WHOLE = 128
_MOUTH = 48  # from here on the face's points are lips
_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
_COLOURS: tuple[Colour, ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
_LIMB_SHADE = 0.6  # limbs are darker than the joints on them
_FINGERS = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1) for finger in range(5) for joint in range(4)
)
_FINGER_COLOURS: tuple[Colour, ...] = tuple(
    tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(edge / len(_FINGERS), 1, 1))  # type: ignore[misc]
    for edge in range(len(_FINGERS))
)
_HAND_POINT: Colour = (0, 0, 255)
_FACE_POINT: Colour = (255, 255, 255)
_DRAWN_FOR = 768  # pixels of the shorter side at which limbs are 8 wide and joints have a radius of 4
_FRACTION_BITS = 4  # of OpenCV's fixed-point coordinates


def draw_skeleton(keypoints: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draws every frame.

    Args:
        keypoints: [T, 18 or 128, 3]: x, y in pixels of the frame, and visibility (0 hides a point).
        size: (height, width) of the frames in pixels.

    Returns:
        uint8 [T, H, W, 3] RGB.

    Raises:
        PrefkitError: another shape.
    """
    if keypoints.ndim != 3 or keypoints.shape[1] not in (BODY.stop, WHOLE) or keypoints.shape[2] != 3:
        raise PrefkitError(
            f"the keypoints have shape {keypoints.shape}; expected [T, 18, 3] (OpenPose's body) or "
            "[T, 128, 3] (with 68 of the face and 21 of each hand)"
        )
    return np.stack([_frame(points, size) for points in keypoints])


def draw_lines(
    canvas: np.ndarray,
    points: np.ndarray,
    lines: Sequence[tuple[int, int]],
    colours: Sequence[Colour],
    thickness: int,
) -> None:
    """Draws lines of one thickness between those of points [K, 3] that are both visible."""
    for (start, end), colour in zip(lines, colours, strict=False):
        if points[start, 2] and points[end, 2]:
            ends = _fixed_point(points[[start, end], :2])
            cv2.polylines(canvas, [ends], False, colour, thickness, cv2.LINE_8, _FRACTION_BITS)


def _frame(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros((*size, 3), np.uint8)
    scale = min(size) / _DRAWN_FOR
    radius = max(1.0, 4 * scale)
    for (start, end), colour in zip(_LIMBS, _COLOURS, strict=False):
        if points[start, 2] and points[end, 2]:
            _spindle(canvas, points[start, :2], points[end, :2], radius, _shade(colour))
    for point, colour in zip(points[BODY], _COLOURS, strict=True):
        _dot(canvas, point, radius, colour)
    if len(points) < WHOLE:
        return canvas
    for hand in HANDS:
        draw_lines(canvas, points[hand], _FINGERS, _FINGER_COLOURS, max(1, round(2 * scale)))
        for point in points[hand]:
            _dot(canvas, point, radius, _HAND_POINT)
    for point in points[FACE][:_MOUTH]:
        _dot(canvas, point, max(1.0, 3 * scale), _FACE_POINT)
    return canvas


def _spindle(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float, colour: Colour) -> None:
    """A filled ellipse from point to point."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    along = (end - start) / 2
    length = float(np.hypot(*along)) or 1.0
    across = np.array([-along[1], along[0]]) * radius / length
    outline = (start + end) / 2 + np.cos(turn)[:, None] * along + np.sin(turn)[:, None] * across
    cv2.fillConvexPoly(canvas, _fixed_point(outline), colour, cv2.LINE_8, _FRACTION_BITS)


def _dot(canvas: np.ndarray, point: np.ndarray, radius: float, colour: Colour) -> None:
    if point[2]:
        centre = tuple(int(value) for value in _fixed_point(point[:2]))
        cv2.circle(canvas, centre, round(radius * (1 << _FRACTION_BITS)), colour, -1, cv2.LINE_8, _FRACTION_BITS)


def _shade(colour: Colour) -> Colour:
    red, green, blue = (int(_LIMB_SHADE * channel) for channel in colour)
    return red, green, blue


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(points, np.float64) * (1 << _FRACTION_BITS)).astype(np.int32)
