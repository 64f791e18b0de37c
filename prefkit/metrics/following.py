"""Skeleton following: how near a clip's keypoints come to those that drove it.

Keypoints of a clip are supplied, or read from a drawn portrait by the shipped landmark network: nose and
eyes, which the skeleton has too. Known truth is never looked at: the driving keypoints are an input of the
generator. Distances are relative to the size of the driven body.
"""

from typing import Any, NamedTuple

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.metrics.landmark_sources import WEIGHTS, is_drawn, landmark_frames
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, lacking_packages
from prefkit.metrics.supplied import for_frames
from prefkit.skeletons.keypoints import read_keypoints

ALPHA = 0.05  # of the body's larger side: nearer counts as correct
SURE = 0.3  # confidence below which a supplied keypoint is not there
# COCO's standard deviations of annotators (cocodataset.org, keypoint evaluation), in OpenPose's order of 18
COCO_18_SIGMAS = np.array(
    [0.026, 0.079, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089, 0.107, 0.087, 0.089]
    + [0.025, 0.025, 0.035, 0.035]
)
OTHER_SIGMA = 0.05  # of points in another order
NOSE, EYES = 0, (14, 15)  # of the 18


class Pair(NamedTuple):
    """Where keypoints are and where they should be.

    Attributes:
        seen: float64 [T, K, 2] in pixels.
        wanted: float64 [T, K, 2].
        shared: bool [T, K]: both are there.
        size: float64 [T, 2], width and height of the driven body's box.
    """

    seen: np.ndarray
    wanted: np.ndarray
    shared: np.ndarray
    size: np.ndarray


def body_size(keypoints: np.ndarray) -> np.ndarray:
    """Width and height of the box around the visible keypoints, [T, K, 3] -> [2]: the clip's largest."""
    visible = keypoints[..., 2] > SURE
    points = np.where(visible[..., None], keypoints[..., :2], np.nan)
    known = points[visible.any(axis=1)]
    if not len(known):
        return np.zeros(2)
    return (np.nanmax(known, axis=1) - np.nanmin(known, axis=1)).max(axis=0)


def pck(seen: np.ndarray, wanted: np.ndarray, shared: np.ndarray, size: np.ndarray, alpha: float = ALPHA) -> float:
    """Percentage of correct keypoints (Yang & Ramanan 2013): the share nearer than alpha times the larger side.

    Args:
        seen: [T, K, 2] in pixels.
        wanted: [T, K, 2].
        shared: bool [T, K], which to count.
        size: [2], width and height of the body.
        alpha: share of the larger side.

    Returns:
        0–1; NaN where nothing is to be counted.
    """
    near = np.linalg.norm(seen - wanted, axis=-1) <= alpha * size.max()
    return float(near[shared].mean()) if shared.any() else float("nan")


def oks(seen: np.ndarray, wanted: np.ndarray, shared: np.ndarray, size: np.ndarray, sigmas: np.ndarray) -> float:
    """Object keypoint similarity (COCO), mean over frames; arguments as for `pck`, sigmas [K].

    COCO's area is that of the person's outline; as usual without one, it is 0.53 of the box.
    """
    area = 0.53 * size.prod()
    distance = ((seen - wanted) ** 2).sum(axis=-1)
    similarity = np.exp(-distance / (2 * area * (2 * sigmas) ** 2 + 1e-12))
    frames = shared.any(axis=1)
    if not frames.any():
        return float("nan")
    return float(((similarity * shared).sum(axis=1)[frames] / shared.sum(axis=1)[frames]).mean())


def _check(scored: ScoredClip) -> None:
    if not scored.condition.get("keypoints"):
        raise NotScored("no_keypoints", "the condition has no driving keypoints")
    if "keypoints" not in scored.supplied and not is_drawn(scored):
        raise NotScored(
            "no_keypoints",
            "there are no keypoints of the clip; supply them with --supplied FOLDER (keypoints [T, K, 3])",
        )


def _driving(scored: ScoredClip) -> np.ndarray:
    try:
        return read_keypoints(scored.condition["keypoints"], (scored.height, scored.width)).astype(np.float64)
    except PrefkitError as error:
        raise NotScored("bad_input", str(error)) from None


def _read_keypoints(scored: ScoredClip) -> tuple[np.ndarray, dict[str, Any]]:
    """The clip's own keypoints [T, K, 3], confidence last, and where they come from."""
    if "keypoints" in scored.supplied:
        return for_frames(scored.supplied, "keypoints", scored.num_frames), {"keypoints": "supplied"}
    landmarks, made_by = scored.seen(landmark_frames)
    found = np.zeros((len(landmarks), 18, 3))
    found[:, NOSE, :2] = landmarks[:, 30]
    found[:, EYES[0], :2] = landmarks[:, 36:42].mean(axis=1)
    found[:, EYES[1], :2] = landmarks[:, 42:48].mean(axis=1)
    found[:, (NOSE, *EYES), 2] = 1
    return found, made_by | {"keypoints": "nose and eyes by the shipped landmark network"}


def _pair(scored: ScoredClip) -> tuple[Pair, dict[str, Any]]:
    wanted = _driving(scored)
    seen, made_by = _read_keypoints(scored)
    frames = min(len(seen), len(wanted))
    if seen.shape[1] != wanted.shape[1]:
        raise NotScored(
            "bad_input", f"the clip has {seen.shape[1]} keypoints a frame and the driving skeleton {wanted.shape[1]}"
        )
    seen, wanted = seen[:frames], wanted[:frames]
    # keypoints outside of the picture cannot be followed
    inside = (wanted[..., :2] >= 0).all(axis=-1) & (wanted[..., 0] < scored.width) & (wanted[..., 1] < scored.height)
    shared = (wanted[..., 2] > SURE) & (seen[..., 2] > SURE) & inside & np.isfinite(seen).all(axis=-1)
    size = body_size(wanted)
    if not shared.any() or not size.all():
        raise NotScored("no_keypoints", "no keypoint is both in the clip and in the driving skeleton")
    distance = np.linalg.norm(seen[..., :2] - wanted[..., :2], axis=-1)
    details = made_by | {
        "points": np.flatnonzero(shared.any(axis=0)).tolist(),
        "frames": frames,
        "mean_distance_px": round(float(distance[shared].mean()), 3),
    }
    return Pair(seen[..., :2], wanted[..., :2], shared, size), details


def _pose_pck(scored: ScoredClip) -> Measurement:
    pair, details = scored.once(_pair)
    return Measurement(pck(*pair), details | {"alpha": ALPHA})


def _pose_oks(scored: ScoredClip) -> Measurement:
    pair, details = scored.once(_pair)
    points = pair.wanted.shape[1]
    sigmas = COCO_18_SIGMAS if points == 18 else np.full(points, OTHER_SIGMA)
    return Measurement(oks(*pair, sigmas), details)


def _metric(name: str, score: Any, source: str, description: str) -> Metric:
    return Metric(
        name=name,
        version="2",
        direction="higher",
        unit="",
        needs=("driving keypoints", "keypoints of the clip (synthetic portraits: shipped network)"),
        source=source,
        description=description,
        score=score,
        check=_check,
        reads=(landmark_frames,),
        lacks=lacking_packages("torch", "safetensors"),
        weights=WEIGHTS,
        supplies=("keypoints",),
    )


METRICS = [
    _metric(
        "pose_pck",
        _pose_pck,
        "Yang & Ramanan 2013 (PCK)",
        f"share of keypoints nearer to the driving skeleton than {ALPHA:g} of the body's larger side",
    ),
    _metric("pose_oks", _pose_oks, "COCO keypoint evaluation (OKS)", "object keypoint similarity with the skeleton"),
]
