"""Whether the person stays the same: face embeddings (ArcFace) and picture embeddings (DINO).

Both networks are the user's: an ONNX file each, or for DINO a folder of transformers. Faces are aligned by five
points, from the landmarks of the clip (`prefkit.metrics.landmark_sources`) or by YuNet.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from prefkit.media import Frame, MediaError, read_image
from prefkit.metrics.embedders import ARCFACE_SIZE, face_embedder, picture_embedder
from prefkit.metrics.landmark_sources import is_drawn, landmark_frames
from prefkit.metrics.metric import Measurement, Metric, NotScored, Reader, ScoredClip, Weights, missing_packages

STRIDE = 5  # frames: identity does not change faster
# Where ArcFace wants eyes, nose and the corners of the mouth in its 112 × 112 picture (Deng et al. 2019).
ARCFACE_POINTS = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Eyes, nose and corners of the mouth [5, 2] from 68 landmarks [68, 2]."""
    eyes = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def aligned_face(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face turned and scaled to ArcFace's points: uint8 [H, W, 3] and [5, 2] -> uint8 [112, 112, 3]."""
    import cv2

    return cv2.warpAffine(frame, similarity(points, ARCFACE_POINTS), (ARCFACE_SIZE, ARCFACE_SIZE))


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity transform [2, 3] that brings points [N, 2] nearest to their target (Umeyama 1991)."""
    middle, aim = points.mean(axis=0), target.mean(axis=0)
    left, stretch, right = np.linalg.svd((target - aim).T @ (points - middle))
    sign = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turn = left * sign @ right * (stretch * sign).sum() / ((points - middle) ** 2).sum()
    return np.column_stack([turn, aim - turn @ middle])


def first_and_previous(embeddings: np.ndarray) -> float:
    """Consistency as in VBench: mean over frames of the cosines with the first and the previous one, [n, D]."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    to_first, to_previous = unit[1:] @ unit[0], (unit[1:] * unit[:-1]).sum(axis=1)
    return float((np.clip(to_first, -1, 1) + np.clip(to_previous, -1, 1)).mean() / 2)


def _check_faces(scored: ScoredClip) -> None:
    if "landmarks" in scored.supplied or is_drawn(scored) or {"mediapipe_landmarks", "yunet"} & set(scored.weights):
        return
    raise NotScored(
        "no_landmarks",
        "there are no points to align faces by; supply landmarks with --supplied FOLDER, or name a model with "
        "--weights yunet=PATH",
    )


def _check_reference(scored: ScoredClip) -> None:
    if not scored.condition.get("reference_image"):
        raise NotScored("no_reference", "the condition has no reference image")
    _check_faces(scored)
    if (
        "landmarks" in scored.supplied
        and "reference_landmarks" not in scored.supplied
        and "yunet" not in scored.weights
    ):
        raise NotScored("no_reference", "the supplied file has no reference_landmarks [68, 2] of the reference image")


class _FaceEmbeddings:
    """Aligns and embeds every fifth frame's face; in the second pass, once landmarks are known."""

    def __init__(self, scored: ScoredClip):
        self._points = _points_by_frame(scored)
        self._embed = face_embedder(scored.weights["arcface"])
        self._found: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        if frame.index % STRIDE:
            return
        points = self._points(frame.index, frame.rgb)
        if points is not None:
            self._found.append(self._embed(aligned_face(frame.rgb, points)))

    def result(self) -> np.ndarray:
        if len(self._found) < 2:
            raise NotScored("no_face", "a face is found in fewer than 2 of the frames looked at")
        return np.stack(self._found)


def _points_by_frame(scored: ScoredClip) -> Callable[[int, np.ndarray], np.ndarray | None]:
    if "landmarks" in scored.supplied:
        return lambda index, frame: _known(scored.supplied["landmarks"], index)
    if is_drawn(scored) or "mediapipe_landmarks" in scored.weights:
        found, _ = scored.seen(landmark_frames)
        return lambda index, frame: _known(found, index)
    return lambda index, frame: _largest_face(scored.weights, frame)


def _known(landmarks: np.ndarray, index: int) -> np.ndarray | None:
    if index >= len(landmarks) or not np.isfinite(landmarks[index]).all():
        return None
    return five_points(landmarks[index])


def _largest_face(weights: Weights, frame: np.ndarray) -> np.ndarray | None:
    from prefkit.metrics.face_detectors import chosen_detector

    faces = chosen_detector({"yunet": weights["yunet"]})[0](frame)
    if not len(faces):
        return None
    return faces[np.argmax(np.prod(faces[:, 2:4] - faces[:, :2], axis=1)), 4:14].reshape(5, 2)


def face_embeddings(scored: ScoredClip) -> Reader:
    """A reading, in the second pass, of ArcFace embeddings [n, D]."""
    _check_faces(scored)
    return _FaceEmbeddings(scored)


def _reference_embedding(scored: ScoredClip) -> np.ndarray:
    try:
        image = read_image(scored.condition["reference_image"])
    except MediaError:
        raise NotScored("no_reference", "the condition's reference image cannot be read") from None
    if "reference_landmarks" in scored.supplied:
        points: np.ndarray | None = five_points(scored.supplied["reference_landmarks"].reshape(68, 2))
    elif "yunet" in scored.weights:
        points = _largest_face(scored.weights, image)
    elif is_drawn(scored):
        from prefkit.metrics.landmark_network import predict_landmarks
        from prefkit.metrics.loaded_networks import shipped_landmark_network

        points = five_points(predict_landmarks(image[None].copy(), shipped_landmark_network())[0])
    else:
        from prefkit.metrics.mediapipe_tasks import face_landmarker

        found = face_landmarker(scored.weights["mediapipe_landmarks"])(image)
        points = None if found is None else five_points(found)
    if points is None:
        raise NotScored("no_face", "no face is found in the condition's reference image")
    return face_embedder(scored.weights["arcface"])(aligned_face(image, points))


class _PictureEmbeddings:
    def __init__(self, scored: ScoredClip):
        self._embed = picture_embedder(scored.weights["dino"])
        self._found: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        if frame.index % STRIDE == 0:
            self._found.append(self._embed(frame.rgb))

    def result(self) -> np.ndarray:
        if len(self._found) < 2:
            raise NotScored("too_short", f"the clip has fewer than {STRIDE + 1} frames")
        return np.stack(self._found)


def picture_embeddings(scored: ScoredClip) -> Reader:
    """A reading of DINO embeddings [n, D] of every fifth frame."""
    return _PictureEmbeddings(scored)


def _made_by(scored: ScoredClip, name: str, count: int) -> dict[str, Any]:
    from prefkit.metrics.weight_files import weights_hash

    path = scored.weights[name]
    return {"network": {"variant": f"{name}: {path.name}", "weights": weights_hash(path)[:16]}, "frames": count}


def _identity_consistency(scored: ScoredClip) -> Measurement:
    found = scored.seen(face_embeddings)
    return Measurement(first_and_previous(found), _made_by(scored, "arcface", len(found)))


def _identity_similarity(scored: ScoredClip) -> Measurement:
    found, reference = scored.seen(face_embeddings), scored.once(_reference_embedding)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = unit @ (reference / np.linalg.norm(reference))
    details = _made_by(scored, "arcface", len(found)) | {"per_sample": cosines.round(4).tolist()}
    return Measurement(float(cosines.mean()), details)


def _subject_consistency(scored: ScoredClip) -> Measurement:
    found = scored.seen(picture_embeddings)
    return Measurement(first_and_previous(found), _made_by(scored, "dino", len(found)))


def _lacks(name: str, file: str) -> Callable[[Weights], str | None]:
    def lacks(weights: Weights) -> str | None:
        if name not in weights:
            return f"no weights are given; name them with --weights {name}={file}"
        return missing_packages("cv2", "onnxruntime" if weights[name].is_file() else "transformers")

    return lacks


_FACE_WEIGHTS = ("arcface", "yunet", "mediapipe_landmarks")

METRICS = [
    Metric(
        name="identity_similarity",
        version="1",
        direction="higher",
        unit="",
        needs=("frames", "reference image", "face points", "ArcFace weights"),
        source="ArcFace (Deng et al. 2019); CSIM of portrait animation",
        description="mean cosine of the face's embedding with the reference image's",
        score=_identity_similarity,
        check=_check_reference,
        reads=(landmark_frames,),
        rereads=(face_embeddings,),
        lacks=_lacks("arcface", "path/to/arcface.onnx"),
        weights=_FACE_WEIGHTS,
        supplies=("landmarks", "reference_landmarks"),
    ),
    Metric(
        name="identity_consistency",
        version="1",
        direction="higher",
        unit="",
        needs=("frames", "face points", "ArcFace weights"),
        source="ArcFace (Deng et al. 2019); averaged as VBench's subject consistency",
        description="mean cosine of the face's embedding with the first and the previous one's; 1 on a frozen clip",
        score=_identity_consistency,
        check=_check_faces,
        reads=(landmark_frames,),
        rereads=(face_embeddings,),
        lacks=_lacks("arcface", "path/to/arcface.onnx"),
        weights=_FACE_WEIGHTS,
        supplies=("landmarks",),
    ),
    Metric(
        name="subject_consistency",
        version="1",
        direction="higher",
        unit="",
        needs=("frames", "DINO weights"),
        source="VBench (arXiv 2311.17982), subject consistency",
        description="mean cosine of a frame's embedding with the first and the previous one's; 1 on a frozen clip",
        score=_subject_consistency,
        reads=(picture_embeddings,),
        lacks=_lacks("dino", "path/to/dino.onnx"),
        weights=("dino",),
    ),
]
