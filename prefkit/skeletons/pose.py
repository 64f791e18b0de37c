"""Keypoints of a driving video, by a DWPose or RTMPose network in an ONNX file that the user has.

The networks say, for each point, how likely each column and each row is (SimCC). COCO's 17 body points and
COCO-WholeBody's 133 are understood.

Source: RTMPose (arXiv 2303.07399); SimCC (arXiv 2107.03332); DWPose (arXiv 2307.15880).
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from prefkit.errors import PrefkitError

VISIBLE = 0.3  # confidence from which a point counts as seen
BODY_POINTS, WHOLE_BODY_POINTS = 17, 133
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_PADDING = 1.25  # of the box around a person, as the networks were trained
_SHOULDERS = (5, 6)
# OpenPose's body points but the neck, in COCO's numbers; the neck goes second
_FROM_COCO = (0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_FACE_AND_HANDS = slice(23, 133)

Box = tuple[float, float, float, float]


class PoseEstimator:
    """Reads keypoints off frames of one person."""

    def __init__(self, path: str | Path):
        """Opens an ONNX file.

        Raises:
            PrefkitError: onnxruntime is not installed, or the file is no such network.
        """
        self.path = Path(path)
        self._session = _open(self.path)
        shape = self._session.get_inputs()[0].shape
        outputs = self._session.get_outputs()
        if (
            len(shape) != 4
            or shape[1] != 3
            or not all(isinstance(side, int) for side in shape[2:])
            or len(outputs) != 2
        ):
            raise PrefkitError(
                f"{self.path} takes {shape} and gives {len(outputs)} outputs; expected an RTMPose or DWPose network "
                "that takes [batch, 3, height, width] and gives simcc_x and simcc_y"
            )
        self._size: tuple[int, int] = (int(shape[2]), int(shape[3]))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """The person's keypoints.

        Each frame is looked at twice: whole, and then cut to what was found.

        Args:
            frames: uint8 [T, H, W, 3] RGB.

        Returns:
            float32 [T, 18 or 128, 3] as `prefkit.skeletons.drawing` draws them; the third number is 1 for
            points that were seen.

        Raises:
            PrefkitError: the network finds another number of points than 17 or 133.
        """
        return np.stack([to_openpose(self._frame(frame)) for frame in frames])

    def _frame(self, frame: np.ndarray) -> np.ndarray:
        whole = (0.0, 0.0, float(frame.shape[1]), float(frame.shape[0]))
        points = self._within(frame, whole)
        box = _box_around(points)
        return points if box is None else self._within(frame, box)

    def _within(self, frame: np.ndarray, box: Box) -> np.ndarray:
        """Points [K, 3] in pixels of the frame, with confidences."""
        to_input = _crop(box, self._size)
        picture = cv2.warpAffine(frame, to_input, (self._size[1], self._size[0]), flags=cv2.INTER_LINEAR)
        values = ((picture.astype(np.float32) - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None]
        columns, rows = self._session.run(None, {self._session.get_inputs()[0].name: values})
        points = decode_simcc(columns[0], rows[0], self._size)
        if len(points) not in (BODY_POINTS, WHOLE_BODY_POINTS):
            raise PrefkitError(
                f"{self.path} finds {len(points)} points; expected COCO's {BODY_POINTS} or "
                f"COCO-WholeBody's {WHOLE_BODY_POINTS}"
            )
        points[:, :2] = cv2.transform(points[None, :, :2], cv2.invertAffineTransform(to_input))[0]
        return points


def decode_simcc(columns: np.ndarray, rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The most likely column and row of each point.

    Args:
        columns: [K, a · width]: scores of positions, `a` to a pixel.
        rows: [K, a · height].
        size: (height, width) of the network's input.

    Returns:
        float32 [K, 3]: x, y in pixels of the input, and the smaller of the two scores.
    """
    x = columns.argmax(axis=1) * (size[1] / columns.shape[1])
    y = rows.argmax(axis=1) * (size[0] / rows.shape[1])
    score = np.minimum(columns.max(axis=1), rows.max(axis=1))
    return np.stack([x, y, score], axis=1).astype(np.float32)


def to_openpose(points: np.ndarray) -> np.ndarray:
    """COCO's [17, 3] or COCO-WholeBody's [133, 3] with confidences -> [18 or 128, 3] with 1 where a point was seen."""
    neck = points[list(_SHOULDERS)].mean(axis=0, keepdims=True)
    neck[:, 2] = points[list(_SHOULDERS), 2].min()
    body = points[list(_FROM_COCO)]
    ordered = np.concatenate([body[:1], neck, body[1:], points[_FACE_AND_HANDS]])
    ordered[:, 2] = ordered[:, 2] > VISIBLE
    return ordered.astype(np.float32)


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise PrefkitError(
            "reading poses off a driving video needs onnxruntime; install it with pip install 'prefkit[pose]'"
        ) from None
    if not path.is_file():
        raise PrefkitError(f"there is no file {path}; expected an RTMPose or DWPose network (.onnx)")
    try:
        return onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's own exceptions have no common base
        reason = str(error).strip().partition("\n")[0]
        raise PrefkitError(f"{path} cannot be read as an ONNX network ({reason}); download it again") from error


def _crop(box: Box, size: tuple[int, int]) -> np.ndarray:
    """The affine map [2, 3] that puts a box (left, top, right, bottom) in the middle of the input, undistorted."""
    left, top, right, bottom = box
    scale = min(size[1] / (right - left), size[0] / (bottom - top))
    shift = (size[1] - scale * (left + right)) / 2, (size[0] - scale * (top + bottom)) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)


def _box_around(points: np.ndarray) -> Box | None:
    """A box around what was seen, or None where that is hardly anything."""
    seen = points[points[:, 2] > VISIBLE, :2]
    if len(seen) < 2 or not (np.ptp(seen, axis=0) > 8).all():
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2 * _PADDING
    (left, top), (right, bottom) = middle - half, middle + half
    return float(left), float(top), float(right), float(bottom)
