"""Expression and head motion from landmarks, and the mouth against the sound.

Landmarks are supplied, read by a model that the user names, or, of synthetic portraits, by the small network
that ships with prefkit and knows nothing else; every row names the source in its details. Those of real
faces are turned to the front first (`prefkit.metrics.head_pose`).
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from prefkit.metrics.audio_visual import Lag, energy_envelope, mouth_sound_lag
from prefkit.metrics.landmark_sources import (
    SUPPLIES,
    WEIGHTS,
    check_landmarks,
    is_drawn,
    landmark_frames,
    landmarks,
)
from prefkit.metrics.landmarks import (
    brow_height,
    count_blinks,
    eye_aspect_ratio,
    head_speed,
    landmark_jerk,
    mouth_aperture,
)
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, Weights, missing_packages


def _series(
    measure: Callable[[np.ndarray], np.ndarray], summary: Callable[[np.ndarray], Any] = np.std
) -> Callable[[ScoredClip], Measurement]:
    """A metric that sums up a curve over frames, which goes into the details."""

    def score(scored: ScoredClip) -> Measurement:
        found = scored.once(landmarks)
        curve = measure(found.frontal)
        return Measurement(float(summary(curve)), found.made_by | {"per_frame": curve.round(3).tolist()})

    return score


def _blink_rate(scored: ScoredClip) -> Measurement:
    found = scored.once(landmarks)
    ratio = eye_aspect_ratio(found.frontal)
    blinks = count_blinks(ratio, scored.fps)
    details = {"blinks": blinks, "per_frame": ratio.round(3).tolist()}
    return Measurement(blinks * scored.fps / len(ratio), found.made_by | details)


def _motion(measure: Callable[[np.ndarray, float, float], float]) -> Callable[[ScoredClip], Measurement]:
    def score(scored: ScoredClip) -> Measurement:
        found = scored.once(landmarks)
        return Measurement(measure(found.pixels, scored.fps, found.scale), found.made_by)

    return score


def _head_pose_std(scored: ScoredClip) -> Measurement:
    found = scored.once(landmarks)
    if found.pose is None:
        raise NotScored("not_applicable", "a drawn portrait has no depth, so its head has no pose")
    angles = np.stack([np.unwrap(angle, period=360) for angle in (found.pose.yaw, found.pose.pitch, found.pose.roll)])
    names = ("yaw", "pitch", "roll")
    per_frame = {name: angle.round(1).tolist() for name, angle in zip(names, angles, strict=True)}
    return Measurement(float(np.sqrt(angles.var(axis=1).sum())), found.made_by | per_frame)


def _check_pose(scored: ScoredClip) -> None:
    check_landmarks(scored)
    if is_drawn(scored):
        raise NotScored("not_applicable", "a drawn portrait has no depth, so its head has no pose")


def _check_with_sound(scored: ScoredClip) -> None:
    scored.sound()
    check_landmarks(scored)


def _lag(scored: ScoredClip) -> tuple[Lag, dict[str, Any]]:
    sound = scored.sound()
    found = scored.once(landmarks)
    envelope = energy_envelope(sound, scored.num_frames, scored.fps)
    lag = mouth_sound_lag(mouth_aperture(found.frontal), envelope)
    if np.isnan(lag.correlation_at_zero):
        raise NotScored("constant", "the mouth or the sound never changes, so nothing can be correlated")
    return lag, found.made_by | {"lag": lag.lag, "correlation_at_lag": round(lag.correlation_at_lag, 4)}


def _av_corr0(scored: ScoredClip) -> Measurement:
    lag, details = scored.once(_lag)
    return Measurement(lag.correlation_at_zero, details)


def _av_lag(scored: ScoredClip) -> Measurement:
    lag, details = scored.once(_lag)
    return Measurement(float(lag.lag), details)


def _lacks(weights: Weights) -> str | None:
    # supplied landmarks need no network, but which clips have some is not known here
    return missing_packages("torch", "safetensors")


def _metric(
    name: str,
    direction: Literal["higher", "lower", "band"],
    unit: str,
    score: Callable[[ScoredClip], Measurement],
    description: str,
    *,
    source: str = "prefkit",
    sound: bool = False,
    check: Callable[[ScoredClip], None] = check_landmarks,
) -> Metric:
    return Metric(
        name=name,
        version="3",  # of the shipped landmark weights too
        direction=direction,
        unit=unit,
        needs=("landmarks (synthetic portraits: shipped network)", *(("sound",) if sound else ())),
        source=source,
        description=description,
        score=score,
        check=_check_with_sound if sound else check,
        reads=(landmark_frames,),
        lacks=_lacks,
        weights=WEIGHTS,
        supplies=SUPPLIES,
    )


_IOD = "inter-ocular distances"

METRICS = [
    _metric(
        "av_corr0", "higher", "", _av_corr0, "correlation of the mouth's aperture with the sound's energy", sound=True
    ),
    _metric("av_lag", "band", "frames", _av_lag, "lag at which they correlate best; positive: sound late", sound=True),
    _metric("mouth_range", "band", _IOD, _series(mouth_aperture), "standard deviation of the mouth's aperture"),
    _metric(
        "blink_rate", "band", "1/s", _blink_rate, "blinks a second", source="Soukupová & Čech 2016 (eye aspect ratio)"
    ),
    _metric(
        "eye_range",
        "band",
        "",
        _series(eye_aspect_ratio),
        "standard deviation of the eye aspect ratio",
        source="Soukupová & Čech 2016 (eye aspect ratio)",
    ),
    _metric("brow_range", "band", _IOD, _series(brow_height), "standard deviation of the brows' height"),
    _metric(
        "head_pose_std",
        "band",
        "degrees",
        _head_pose_std,
        "how far the head turns: root of the variances of yaw, pitch and roll",
        source="prefkit; scaled orthography (DeMenthon & Davis 1995)",
        check=_check_pose,
    ),
    _metric("head_speed", "band", f"{_IOD} / s", _motion(head_speed), "mean speed of eye corners and nose"),
    _metric(
        "landmark_jerk", "lower", f"{_IOD} / s³", _motion(landmark_jerk), "mean jerk of eye corners and nose: jitter"
    ),
]
