"""Draws a person frame by frame: at four times the size, then shrunk by area."""

import cv2
import numpy as np

from prefkit.synthetic.geometry import EARS, ELBOWS, FRAME_SIZE, NECK, SHOULDERS, WRISTS
from prefkit.synthetic.identity import Colour, Identity

OVERSAMPLING = 4
_FRACTION_BITS = 4  # of OpenCV's fixed-point coordinates

# Colours that nothing else in a picture has, so that reading.py can find them.
MOUTH_INSIDE: Colour = (96, 8, 22)
EARRING: Colour = (250, 206, 30)
BROOCH: Colour = (40, 190, 80)
WRISTBAND: Colour = (40, 90, 230)

_LIPS: Colour = (188, 88, 92)
_IRIS: Colour = (48, 44, 52)
_EYE_WHITE: Colour = (244, 242, 238)


def draw_clip(identity: Identity, landmarks: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Returns uint8 [T, 64, 64, 3] RGB from landmarks [T, 68, 2] and keypoints [T, 18, 3] in pixels."""
    return np.stack([_frame(identity, face, body) for face, body in zip(landmarks, keypoints, strict=True)])


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Pixels of a 64 × 64 frame -> OpenCV's fixed-point coordinates on the larger canvas."""
    at = (np.asarray(points, np.float64) + 0.5) * OVERSAMPLING - 0.5
    return np.round(at * (1 << _FRACTION_BITS)).astype(np.int32)


def _frame(identity: Identity, face: np.ndarray, body: np.ndarray) -> np.ndarray:
    size = FRAME_SIZE * OVERSAMPLING
    canvas = np.full((size, size, 3), identity.background, np.uint8)
    head = _Head(identity, face)
    if identity.long_hair:
        _polygon(canvas, head.oval(1.16, 1.0, (0.0, 3.0), below=14.0), identity.hair)
    _torso(canvas, identity, face, body)
    _polygon(canvas, head.oval(1.1, 1.1, (0.0, -1.5)), identity.hair)
    for ear in EARS:
        _dot(canvas, body[ear, :2], 2.4, identity.skin)
    _polygon(canvas, np.concatenate([face[:17], head.forehead()]), identity.skin)
    for ear in EARS:
        _dot(canvas, body[ear, :2] + (0, 3.0), 1.5, EARRING)
    _eyes(canvas, face)
    brow = tuple(int(0.7 * channel) for channel in identity.hair)
    for start in (17, 22):
        _line(canvas, face[start : start + 5], brow, identity.brow_thickness)
    shade = tuple(int(0.78 * channel) for channel in identity.skin)
    _line(canvas, face[31:36], shade, 1.0)
    _polygon(canvas, face[48:60], _LIPS)
    _polygon(canvas, face[60:68], MOUTH_INSIDE)
    _arms(canvas, identity, body)
    return cv2.resize(canvas, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_AREA)


class _Head:
    """The head's own axes, taken from the jaw, for hair and forehead."""

    def __init__(self, identity: Identity, face: np.ndarray):
        self.identity = identity
        self.right = (face[16] - face[0]) / np.linalg.norm(face[16] - face[0])
        self.down = np.array([-self.right[1], self.right[0]])
        self.centre = (face[0] + face[16]) / 2 - self.down * identity.face_height * np.sin(0.15)

    def oval(self, wide: float, high: float, shift: tuple[float, float], below: float = 0.0) -> np.ndarray:
        """A closed outline around the head; `below` stretches its lower half by that many pixels."""
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        x = wide * self.identity.face_width * np.cos(angle) + shift[0]
        lower = np.clip(np.sin(angle), 0, None)
        y = high * self.identity.face_height * np.sin(angle) + shift[1] + below * lower
        keep = y < 6 if below == 0 else np.ones_like(y, bool)
        return self._place(x[keep], y[keep])

    def forehead(self) -> np.ndarray:
        """From the right temple over the hairline to the left one."""
        angle = np.linspace(-0.1, -np.pi + 0.1, 16)
        return self._place(
            0.97 * self.identity.face_width * np.cos(angle), 0.74 * self.identity.face_height * np.sin(angle)
        )

    def _place(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.centre + x[:, None] * self.right + y[:, None] * self.down


def _torso(canvas: np.ndarray, identity: Identity, face: np.ndarray, body: np.ndarray) -> None:
    neck, left, right = body[NECK, :2], body[SHOULDERS[0], :2], body[SHOULDERS[1], :2]
    shade = tuple(int(0.88 * channel) for channel in identity.skin)
    _line(canvas, np.stack([face[8] - (0, 6), neck + (0, 3)]), shade, 10)
    outline = [
        left + (-4, 14),
        left + (-4, 2),
        left,
        neck + (-6, -2),
        neck + (0, 2),
        neck + (6, -2),
        right,
        right + (4, 2),
    ]
    _polygon(canvas, np.array([*outline, right + (4, 14)]), identity.clothes)
    _dot(canvas, neck + (0, 5.5), 1.9, BROOCH)


def _arms(canvas: np.ndarray, identity: Identity, body: np.ndarray) -> None:
    for elbow, wrist in zip(ELBOWS, WRISTS, strict=True):
        _line(canvas, body[[elbow, wrist], :2], identity.clothes, 6)
        _dot(canvas, body[wrist, :2], 3.2, WRISTBAND)
        _dot(canvas, body[wrist, :2] + (0, -4.6), 3.0, identity.skin)


def _eyes(canvas: np.ndarray, face: np.ndarray) -> None:
    for start in (36, 42):
        eye = face[start : start + 6]
        _line(canvas, eye[:4], _IRIS, 0.7)
        height = (eye[4:, 1] - eye[1:3, 1]).mean()
        if height < 0.8:
            continue
        _polygon(canvas, eye, _EYE_WHITE)
        _dot(canvas, eye.mean(axis=0), min(1.3, height / 2), _IRIS)


def _polygon(canvas: np.ndarray, points: np.ndarray, colour: Colour | tuple[int, ...]) -> None:
    cv2.fillPoly(canvas, [fixed_point(points)], colour, lineType=cv2.LINE_8, shift=_FRACTION_BITS)


def _line(canvas: np.ndarray, points: np.ndarray, colour: Colour | tuple[int, ...], width: float) -> None:
    thickness = max(1, round(width * OVERSAMPLING))
    cv2.polylines(canvas, [fixed_point(points)], False, colour, thickness, cv2.LINE_8, _FRACTION_BITS)


def _dot(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour | tuple[int, ...]) -> None:
    x, y = (int(value) for value in fixed_point(centre))
    reach = round(radius * OVERSAMPLING * (1 << _FRACTION_BITS))
    cv2.circle(canvas, (x, y), reach, colour, -1, cv2.LINE_8, _FRACTION_BITS)
