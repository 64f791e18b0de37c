"""Finds faces in a frame: OpenCV's own cascade, or a YuNet or MediaPipe model file that the user names.

Each detector takes uint8 [H, W, 3] RGB and returns float64 [N, 4 or 14]: left, top, right, bottom in
pixels, and where the model tells them five points x, y: the eye on the left of the picture, the one on its
right, the nose, the corners of the mouth likewise.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.metrics.metric import Weights

Detector = Callable[[np.ndarray], np.ndarray]

LONG_SIDE = 480  # px; frames are shrunk to it before the search: faces from 96 px at 1080p, published are 100
SMALLEST = 24  # px, the cascade's own window
NEIGHBOURS = 8  # with fewer, patterns of clothes and walls are taken for faces
SCORE = 0.7  # of YuNet and MediaPipe: what is less sure is no face


def chosen_detector(weights: Weights) -> tuple[Detector, dict[str, str]]:
    """The detector whose model the user named, else the cascade; and its name for the row's details.

    Raises:
        PrefkitError: the model file cannot be read, or MediaPipe is not installed.
    """
    from prefkit.metrics.weights import file_hash

    for name, load in (("yunet", _yunet), ("mediapipe_face", _mediapipe)):
        if name in weights:
            return load(weights[name]), {"detector": name, "weights": file_hash(weights[name])}
    return _cascade(), {"detector": "haarcascade_frontalface_default"}


def shrunk(frame: np.ndarray, long_side: int = LONG_SIDE) -> tuple[np.ndarray, float]:
    """The frame with at most this long side, and by how much it was shrunk (≤ 1)."""
    import cv2

    scale = min(1.0, long_side / max(frame.shape[:2]))
    if scale == 1:
        return frame, 1.0
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA), scale


@functools.cache
def _cascade() -> Detector:
    import cv2

    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"  # type: ignore[attr-defined]
    if not path.is_file():
        raise PrefkitError(
            f"this OpenCV ({cv2.__version__}) carries no face cascade; install opencv-python-headless below 5, "
            "or name a model with --weights yunet=PATH"
        )
    cascade = cv2.CascadeClassifier(str(path))

    def detect(frame: np.ndarray) -> np.ndarray:
        small, scale = shrunk(frame)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        found = cascade.detectMultiScale(grey, 1.1, NEIGHBOURS, minSize=(SMALLEST, SMALLEST))
        boxes = np.array(found, np.float64).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) / scale

    return detect


@functools.cache
def _yunet(path: Path) -> Detector:
    import cv2

    try:
        network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), SCORE)
    except cv2.error as error:
        raise PrefkitError(f"{path} is no YuNet model that OpenCV can read ({error.err}); give its ONNX file") from None

    def detect(frame: np.ndarray) -> np.ndarray:
        small, scale = shrunk(frame)
        network.setInputSize((small.shape[1], small.shape[0]))
        rows = network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 15)) if rows is None else np.asarray(rows, np.float64)
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return np.concatenate([boxes, rows[:, 4:14]], axis=1) / scale

    return detect


@functools.cache
def _mediapipe(path: Path) -> Detector:
    from prefkit.metrics.mediapipe_tasks import face_detector

    return face_detector(path, SCORE)
