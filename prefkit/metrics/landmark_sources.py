"""Where a clip's 68 landmarks come from: supplied, a MediaPipe model that the user names, or the shipped network.

The shipped network reads drawn portraits only, which have no depth; all other landmarks are turned to the
front, so that yaw and pitch do not leak into lengths.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prefkit.media import Frame
from prefkit.metrics.head_pose import HeadPose, fit_pose, from_the_front
from prefkit.metrics.landmarks import inter_ocular_distance
from prefkit.metrics.metric import NotScored, Reader, ScoredClip
from prefkit.metrics.supplied import for_frames

SYNTHETIC_SIZE = (64, 64)
SHORTEST_CLIP = 5  # frames
BATCH = 32  # frames
WEIGHTS = ("mediapipe_landmarks",)
SUPPLIES = ("landmarks",)


@dataclass(frozen=True)
class Landmarks:
    """A clip's landmarks, iBUG's order.

    Attributes:
        pixels: float64 [T, 68, 2] as seen; frames without a face, or with one turned away, interpolated.
        frontal: float64 [T, 68, 2] as they would be seen from the front, in a unit of its own.
        scale: pixels that the inter-ocular distance would have from the front, median over the clip.
        pose: of every frame; None for drawn portraits, which have no depth.
        made_by: for the row: the source, and how many frames were left out.
    """

    pixels: np.ndarray
    frontal: np.ndarray
    scale: float
    pose: HeadPose | None
    made_by: dict[str, Any] = field(default_factory=dict)


def is_drawn(scored: ScoredClip) -> bool:
    """Whether the shipped networks can read the clip."""
    return scored.synthetic and (scored.height, scored.width) == SYNTHETIC_SIZE


def check_landmarks(scored: ScoredClip) -> None:
    """Raises NotScored where no source can read the clip."""
    if "landmarks" in scored.supplied or is_drawn(scored) or "mediapipe_landmarks" in scored.weights:
        return
    if scored.synthetic:
        raise NotScored("no_landmarks", "there are no landmarks: the shipped network reads frames of 64×64 px only")
    raise NotScored(
        "no_landmarks",
        "there are no landmarks: the shipped network reads synthetic portraits only; supply them with --supplied "
        "FOLDER, or name a model with --weights mediapipe_landmarks=face_landmarker.task",
    )


class _DrawnReader:
    """The shipped network, a batch of frames at a time."""

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []
        self._found: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        self._waiting.append(frame.rgb)
        if len(self._waiting) == BATCH:
            self._read()

    def result(self) -> tuple[np.ndarray, dict[str, Any]]:
        from prefkit.metrics.loaded_networks import shipped_landmark_network
        from prefkit.metrics.weights import SHIPPED_LANDMARKS, file_hash

        if self._waiting:
            self._read()
        variant = shipped_landmark_network().config.variant
        return np.concatenate(self._found), {"network": {"variant": variant, "weights": file_hash(SHIPPED_LANDMARKS)}}

    def _read(self) -> None:
        from prefkit.metrics.landmark_network import predict_landmarks
        from prefkit.metrics.loaded_networks import shipped_landmark_network

        self._found.append(predict_landmarks(np.stack(self._waiting), shipped_landmark_network()))
        self._waiting = []


class _MediaPipeReader:
    def __init__(self, scored: ScoredClip):
        from prefkit.metrics.mediapipe_tasks import face_landmarker
        from prefkit.metrics.weight_files import weights_hash

        path = scored.weights["mediapipe_landmarks"]
        self._read = face_landmarker(path)
        self._made_by = {"network": {"variant": "mediapipe face_landmarker", "weights": weights_hash(path)[:16]}}
        self._found: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        points = self._read(frame.rgb)
        self._found.append(np.full((68, 2), np.nan) if points is None else points)

    def result(self) -> tuple[np.ndarray, dict[str, Any]]:
        return np.stack(self._found), self._made_by


def landmark_frames(scored: ScoredClip) -> Reader:
    """A reading of landmarks [T, 68, 2] in pixels (NaN: no face) and what made them."""
    if "landmarks" in scored.supplied:
        raise NotScored("not_applicable", "the landmarks are supplied")
    check_landmarks(scored)
    return _DrawnReader() if is_drawn(scored) else _MediaPipeReader(scored)


def landmarks(scored: ScoredClip) -> Landmarks:
    """The clip's landmarks, from whichever source there is.

    Raises:
        NotScored: there is none, the clip is too short, or no face is seen in most frames.
    """
    if scored.num_frames < SHORTEST_CLIP:
        raise NotScored("too_short", f"the clip has fewer than {SHORTEST_CLIP} frames")
    if "landmarks" in scored.supplied:
        found, made_by = (
            for_frames(scored.supplied, "landmarks", scored.num_frames),
            {"network": {"variant": "supplied"}},
        )
    else:
        found, made_by = scored.seen(landmark_frames)
    if is_drawn(scored) and "landmarks" not in scored.supplied:
        return Landmarks(found, found, float(np.median(inter_ocular_distance(found))), None, made_by)
    seen = np.isfinite(found).all(axis=(1, 2))
    if seen.mean() < 0.5:
        raise NotScored("no_face", "there are landmarks of less than half of the frames")
    pose = fit_pose(_filled(found, seen))
    usable = seen & pose.visible
    if usable.mean() < 0.5:
        raise NotScored("no_landmarks", "the face is turned too far away in most frames")
    pixels = _filled(found, usable)
    frontal = _filled(from_the_front(_filled(found, seen), pose), usable)
    scale = float(np.median(inter_ocular_distance(frontal) * pose.scale))
    return Landmarks(
        pixels, frontal, scale, pose, made_by | {"derotated": True, "frames_left_out": int((~usable).sum())}
    )


def _filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[T, …] with the entries that are not known interpolated in time."""
    if known.all():
        return values
    at, frames = np.flatnonzero(known), np.arange(len(values))
    flat = values.reshape(len(values), -1)
    columns = [np.interp(frames, at, flat[at, column]) for column in range(flat.shape[1])]
    return np.stack(columns, axis=1).reshape(values.shape)
