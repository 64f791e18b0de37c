"""Faces and landmarks by a MediaPipe Tasks model file that the user names.

The package carries no models. It also asks for a build of OpenCV that replaces the one prefkit uses, so it is
no extra of prefkit: see the message below.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError

# Vertices of MediaPipe's face mesh at the 68 points of iBUG's order.
IBUG_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


def face_detector(path: Path, score: float) -> Callable[[np.ndarray], np.ndarray]:
    """Boxes [N, 4] of a face detection model (.tflite).

    Raises:
        PrefkitError: MediaPipe is not installed, or the file is no such model.
    """
    mediapipe, vision = _packages()
    detector = _create(vision.FaceDetector, vision.FaceDetectorOptions, path, min_detection_confidence=score)

    def detect(frame: np.ndarray) -> np.ndarray:
        found = detector.detect(_image(mediapipe, frame)).detections
        boxes = [detection.bounding_box for detection in found]
        corners = [(b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height) for b in boxes]
        return np.array(corners, np.float64).reshape(-1, 4)

    return detect


def face_landmarker(path: Path) -> Callable[[np.ndarray], np.ndarray | None]:
    """Landmarks [68, 2] in pixels of the first face that a face landmarker model (.task) finds; None without one.

    Raises:
        PrefkitError: MediaPipe is not installed, or the file is no such model.
    """
    mediapipe, vision = _packages()
    landmarker = _create(vision.FaceLandmarker, vision.FaceLandmarkerOptions, path, num_faces=1)

    def read(frame: np.ndarray) -> np.ndarray | None:
        found = landmarker.detect(_image(mediapipe, frame)).face_landmarks
        if not found:
            return None
        height, width = frame.shape[:2]
        return np.array([(found[0][index].x * width, found[0][index].y * height) for index in IBUG_68])

    return read


def _packages() -> tuple[Any, Any]:
    try:
        return importlib.import_module("mediapipe"), importlib.import_module("mediapipe.tasks.python.vision")
    except ImportError as error:
        raise PrefkitError(
            f"MediaPipe cannot be imported ({error}); install it beside prefkit's OpenCV with "
            "pip install --no-deps mediapipe && pip install absl-py flatbuffers sounddevice matplotlib"
        ) from None


def _create(kind: Any, options: Any, path: Path, **settings: Any) -> Any:
    base = importlib.import_module("mediapipe.tasks.python").BaseOptions
    try:
        return kind.create_from_options(options(base_options=base(model_asset_path=str(path)), **settings))
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        first = str(error).splitlines()[0]
        raise PrefkitError(f"{path} is no MediaPipe model for this task ({first}); download its file again") from None


def _image(mediapipe: Any, frame: np.ndarray) -> Any:
    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
