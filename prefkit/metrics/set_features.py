"""Features of clips for set-level distances, clip by clip; each extractor is named with its weights.

- fid: pictures of every fifth frame, by an Inception network that the user names (ONNX).
- fvd: one vector a clip of 16 frames, by a video network that the user names (ONNX, [1, 3, 16, 224, 224]).
- efid: expression of every frame (mouth, eyes, brows) from landmarks – "style", since E-FID proper fits a
  3-D face model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.media import Frame, MediaError, probe, stream_frames
from prefkit.metrics.embedders import middle_square, onnx_runner
from prefkit.metrics.landmark_sources import check_landmarks, landmark_frames, landmarks
from prefkit.metrics.landmarks import expression_features
from prefkit.metrics.metric import Measurement, Metric, NotScored, Reading, ScoredClip, Weights
from prefkit.metrics.passes import measure
from prefkit.metrics.set_level import SetScore, set_score
from prefkit.metrics.weight_files import weights_hash

STRIDE = 5  # frames, for fid
INCEPTION_SIZE = 299
CLIP_FRAMES, CLIP_SIZE = 16, 224  # of a video network
SIZES = {"inception": (1, 3, INCEPTION_SIZE, INCEPTION_SIZE), "i3d": (1, 3, CLIP_FRAMES, CLIP_SIZE, CLIP_SIZE)}


@dataclass(frozen=True)
class SetClip:
    """A clip of a set: its file, and its condition as metrics see it (`synthetic`, paths)."""

    name: str
    path: Path
    condition: Mapping[str, Any]


def set_scores(
    reference: Sequence[SetClip], clips: Sequence[SetClip], *, weights: Weights | None = None
) -> list[SetScore]:
    """FID, FVD and E-FID-style distances of two sets of clips; what cannot be computed says why.

    Args:
        reference: real clips, or another model's.
        clips: of the model under test; as many as in `reference`, since small sets are biased.
        weights: {"inception": …, "i3d": …} ONNX files; {"mediapipe_landmarks": …} for real faces.
    """
    weights = weights or {}
    scores = []
    for name, network in (("fid", "inception"), ("fvd", "i3d")):
        if network not in weights:
            reason = f"no weights are given; name them with --weights {network}=PATH (ONNX)"
            scores.append(SetScore(name, None, f"{network}: none", 0, 0, reason))
            continue
        extractor = f"{network}: {weights[network].name} ({weights_hash(weights[network])[:8]})"
        scores.append(_compared(name, reference, clips, weights, extractor))
    scores.append(_compared("efid", reference, clips, weights, "mouth, eyes and brows from landmarks"))
    return scores


def _compared(
    name: str, reference: Iterable[SetClip], clips: Iterable[SetClip], weights: Weights, extractor: str
) -> SetScore:
    try:
        wanted, found = ({clip.name: _features(name, clip, weights) for clip in side} for side in (reference, clips))
    except NotScored as reason:
        return SetScore(name, None, extractor, 0, 0, str(reason))
    return set_score(name, wanted, found, extractor)


def _features(name: str, clip: SetClip, weights: Weights) -> np.ndarray:
    """Features [n, D] of one clip.

    Raises:
        NotScored: it cannot be read, or there are no landmarks.
    """
    readings: dict[str, Reading] = {"fid": _Pictures, "fvd": _Video, "efid": landmark_frames}
    found: list[np.ndarray] = []

    def check(scored: ScoredClip) -> None:
        if name == "efid":
            check_landmarks(scored)

    def keep(scored: ScoredClip) -> Measurement:
        seen = expression_features(scored.once(landmarks).frontal) if name == "efid" else scored.seen(readings[name])
        found.append(seen)
        return Measurement(0.0)

    metric = Metric(name, "1", "lower", "", (), "", "", keep, check, reads=(readings[name],))
    try:
        about = probe(clip.path)
        scored = ScoredClip(about.fps, about.height, about.width, None, clip.condition, weights)
        reason = measure(scored, lambda: stream_frames(clip.path), [metric])[name]
    except MediaError as error:
        raise NotScored("unreadable", str(error)) from None
    if isinstance(reason, NotScored):
        raise reason
    return found[0]


class _Pictures:
    """Every fifth frame through a network of pictures."""

    def __init__(self, scored: ScoredClip):
        self._run = onnx_runner(scored.weights["inception"], SIZES["inception"])
        self._found: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        if frame.index % STRIDE == 0:
            picture = middle_square(frame.rgb, INCEPTION_SIZE).astype(np.float32) / 127.5 - 1
            self._found.append(self._run(picture.transpose(2, 0, 1)[None]))

    def result(self) -> np.ndarray:
        return np.stack(self._found)


class _Video:
    """The first 16 frames through a network of videos; one vector."""

    def __init__(self, scored: ScoredClip):
        self._run = onnx_runner(scored.weights["i3d"], SIZES["i3d"])
        self._frames: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        if len(self._frames) < CLIP_FRAMES:
            self._frames.append(middle_square(frame.rgb, CLIP_SIZE).astype(np.float32) / 127.5 - 1)

    def result(self) -> np.ndarray:
        if len(self._frames) < CLIP_FRAMES:
            raise NotScored("too_short", f"a clip has fewer than {CLIP_FRAMES} frames")
        return self._run(np.stack(self._frames).transpose(3, 0, 1, 2)[None])[None]
