"""Expression and head motion from landmarks, and the mouth against the sound.

Landmarks of synthetic portraits are read by the small network that ships with prefkit and knows nothing
else; every row names it in its details.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from prefkit.metrics.audio_visual import Lag, energy_envelope, mouth_sound_lag
from prefkit.metrics.landmarks import (
    brow_height,
    count_blinks,
    eye_aspect_ratio,
    head_speed,
    landmark_jerk,
    mouth_aperture,
)
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, lacking_packages

SYNTHETIC_SIZE = (64, 64)
SHORTEST_CLIP = 5  # frames


def _landmarks(scored: ScoredClip) -> tuple[np.ndarray, dict[str, Any]]:
    """float64 [T, 68, 2] in pixels, and where they come from."""
    if not scored.condition.get("synthetic"):
        raise NotScored("there are no landmarks: the shipped network reads synthetic portraits only")
    if scored.clip.frames.shape[1:3] != SYNTHETIC_SIZE:
        raise NotScored("there are no landmarks: the shipped network reads frames of 64×64 px only")
    if len(scored.clip.frames) < SHORTEST_CLIP:
        raise NotScored(f"the clip has fewer than {SHORTEST_CLIP} frames")
    from prefkit.metrics.landmark_network import predict_landmarks
    from prefkit.metrics.loaded_networks import shipped_landmark_network
    from prefkit.metrics.weights import SHIPPED_LANDMARKS, file_hash

    network = shipped_landmark_network()
    made_by = {"variant": network.config.variant, "weights": file_hash(SHIPPED_LANDMARKS)}
    return predict_landmarks(scored.clip.frames, network), {"network": made_by}


def _series(
    measure: Callable[[np.ndarray], np.ndarray], summary: Callable[[np.ndarray], Any] = np.std
) -> Callable[[ScoredClip], Measurement]:
    """A metric that sums up a curve over frames, which goes into the details."""

    def score(scored: ScoredClip) -> Measurement:
        landmarks, made_by = scored.once(_landmarks)
        curve = measure(landmarks)
        return Measurement(float(summary(curve)), made_by | {"per_frame": curve.round(3).tolist()})

    return score


def _blink_rate(scored: ScoredClip) -> Measurement:
    landmarks, made_by = scored.once(_landmarks)
    ratio = eye_aspect_ratio(landmarks)
    blinks = count_blinks(ratio, scored.clip.fps)
    details = {"blinks": blinks, "per_frame": ratio.round(3).tolist()}
    return Measurement(blinks * scored.clip.fps / len(landmarks), made_by | details)


def _motion(measure: Callable[[np.ndarray, float], float]) -> Callable[[ScoredClip], Measurement]:
    def score(scored: ScoredClip) -> Measurement:
        landmarks, made_by = scored.once(_landmarks)
        return Measurement(measure(landmarks, scored.clip.fps), made_by)

    return score


def _lag(scored: ScoredClip) -> tuple[Lag, dict[str, Any]]:
    sound = scored.sound()
    landmarks, made_by = scored.once(_landmarks)
    envelope = energy_envelope(sound, len(landmarks), scored.clip.fps)
    lag = mouth_sound_lag(mouth_aperture(landmarks), envelope)
    if np.isnan(lag.correlation_at_zero):
        raise NotScored("the mouth or the sound never changes, so nothing can be correlated")
    return lag, made_by | {"lag": lag.lag, "correlation_at_lag": round(lag.correlation_at_lag, 4)}


def _av_corr0(scored: ScoredClip) -> Measurement:
    lag, details = scored.once(_lag)
    return Measurement(lag.correlation_at_zero, details)


def _av_lag(scored: ScoredClip) -> Measurement:
    lag, details = scored.once(_lag)
    return Measurement(float(lag.lag), details)


def _metric(
    name: str,
    direction: Literal["higher", "lower", "band"],
    unit: str,
    score: Callable[[ScoredClip], Measurement],
    description: str,
    *,
    source: str = "prefkit",
    sound: bool = False,
) -> Metric:
    return Metric(
        name=name,
        version="2",  # of the shipped landmark weights too
        direction=direction,
        unit=unit,
        needs=("landmarks (synthetic portraits only)", *(("sound",) if sound else ())),
        source=source,
        description=description,
        score=score,
        lacks=lacking_packages("torch", "safetensors"),
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
    _metric("head_speed", "band", f"{_IOD} / s", _motion(head_speed), "mean speed of eye corners and nose"),
    _metric(
        "landmark_jerk", "lower", f"{_IOD} / s³", _motion(landmark_jerk), "mean jerk of eye corners and nose: jitter"
    ),
]
