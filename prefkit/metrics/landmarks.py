"""Expression and head motion from 68 facial landmarks: arithmetic only.

Landmarks are float [T, 68, 2], x and y in pixels, in iBUG's order (300-W, Sagonas et al. 2013): jaw 0-16,
brows 17-26, nose 27-35, eyes 36-47, outer lips 48-59, inner lips 60-67. Lengths are divided by the
inter-ocular distance, so nothing here depends on resolution, place in the picture or roll. Yaw shortens
that distance and so leaks into every measure: `prefkit.metrics.head_pose` turns landmarks to the front first.
"""

import numpy as np

BROWS = np.arange(17, 27)
EYES = (np.arange(36, 42), np.arange(42, 48))  # corner, two above, corner, two below
OUTER_CORNERS = (36, 45)
CORNERS = np.array([36, 39, 42, 45])
INNER_LIPS = (np.array([61, 62, 63]), np.array([67, 66, 65]))  # upper, and the lower ones under them
STABLE = np.concatenate([CORNERS, np.arange(27, 36)])  # move with the head and not with the expression

# A blink: the eye aspect ratio falls below SHUT and comes back above REOPENED (shares of the open eye's).
SHUT = 0.6
REOPENED = 0.75
LONGEST_BLINK = 0.6  # seconds; longer is an eye held shut
LEAST_OPEN = 0.1  # eye aspect ratio below which the eyes never were open


def inter_ocular_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance between the outer eye corners, the normalisation of 300-W: [T] in pixels."""
    left, right = OUTER_CORNERS
    return np.linalg.norm(landmarks[:, right] - landmarks[:, left], axis=-1)


def mouth_aperture(landmarks: np.ndarray) -> np.ndarray:
    """Mean height of the inner lips in inter-ocular distances: [T], >= 0."""
    upper, lower = INNER_LIPS
    height = np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=-1).mean(axis=1)
    return height / inter_ocular_distance(landmarks)


def eye_aspect_ratio(landmarks: np.ndarray) -> np.ndarray:
    """Height over width of the eyes, mean of both: [T], near 0.3 open, near 0 shut.

    Soukupová & Čech 2016, "Real-time eye blink detection using facial landmarks", equation 1.
    """
    ratios = []
    for eye in EYES:
        corner, above_1, above_2, other_corner, below_2, below_1 = (landmarks[:, point] for point in eye)
        height = np.linalg.norm(above_1 - below_1, axis=-1) + np.linalg.norm(above_2 - below_2, axis=-1)
        ratios.append(height / (2 * np.linalg.norm(corner - other_corner, axis=-1)))
    return np.mean(ratios, axis=0)


def brow_height(landmarks: np.ndarray) -> np.ndarray:
    """Height of the brows above the eye corners, along the face's own vertical, in inter-ocular distances: [T]."""
    left, right = OUTER_CORNERS
    across = landmarks[:, right] - landmarks[:, left]
    up = np.stack([across[:, 1], -across[:, 0]], axis=-1) / np.linalg.norm(across, axis=-1, keepdims=True)
    lifted = landmarks[:, BROWS].mean(axis=1) - landmarks[:, CORNERS].mean(axis=1)
    return (lifted * up).sum(axis=-1) / inter_ocular_distance(landmarks)


def count_blinks(eye_aspect_ratio: np.ndarray, fps: float) -> int:
    """Blinks in a series of eye aspect ratios [T], by hysteresis around the open eye's ratio.

    The open eye's ratio is the upper quartile of the clip. A blink cut off by the clip's start or end counts.
    """
    opened = float(np.quantile(eye_aspect_ratio, 0.75))
    if opened < LEAST_OPEN:
        return 0
    blinks, began = 0, None
    for frame, ratio in enumerate([*eye_aspect_ratio, np.inf]):
        if began is None and ratio < SHUT * opened:
            began = frame
        elif began is not None and ratio > REOPENED * opened:
            blinks += (frame - began) / fps <= LONGEST_BLINK
            began = None
    return blinks


def head_roll(landmarks: np.ndarray) -> np.ndarray:
    """Angle of the line through the outer eye corners: [T] in degrees, positive clockwise in the picture."""
    left, right = OUTER_CORNERS
    across = landmarks[:, right] - landmarks[:, left]
    return np.degrees(np.unwrap(np.arctan2(across[:, 1], across[:, 0])))


def head_translation(landmarks: np.ndarray) -> np.ndarray:
    """Where the head is, from its mean place in the clip, in inter-ocular distances: [T, 2]."""
    centre = landmarks[:, STABLE].mean(axis=1)
    return (centre - centre.mean(axis=0)) / _clip_scale(landmarks)


def head_speed(landmarks: np.ndarray, fps: float, scale: float | None = None) -> float:
    """Mean speed of eye corners and nose in inter-ocular distances a second. Needs two frames.

    `scale` is the inter-ocular distance in pixels; by default the median of what is seen.
    """
    return _mean_difference(landmarks, fps, 1, scale)


def landmark_jerk(landmarks: np.ndarray, fps: float, scale: float | None = None) -> float:
    """Mean size of the third derivative of eye corners and nose in inter-ocular distances a second cubed.

    Only points that move with the head: including lips and lids would reward a face that does not speak.
    Needs four frames; `scale` as for `head_speed`.
    """
    return _mean_difference(landmarks, fps, 3, scale)


def expression_features(landmarks: np.ndarray) -> np.ndarray:
    """What a face expresses, [T, 5]: aperture and width of the mouth, eye aspect ratio, height and tilt of the brows.

    Lengths are in inter-ocular distances.
    """
    distance = inter_ocular_distance(landmarks)
    width = np.linalg.norm(landmarks[:, 54] - landmarks[:, 48], axis=-1) / distance
    inner, outer = landmarks[:, [21, 22]].mean(axis=1), landmarks[:, [17, 26]].mean(axis=1)
    left, right = OUTER_CORNERS
    across = landmarks[:, right] - landmarks[:, left]
    up = np.stack([across[:, 1], -across[:, 0]], axis=-1) / np.linalg.norm(across, axis=-1, keepdims=True)
    tilt = ((inner - outer) * up).sum(axis=-1) / distance
    return np.stack(
        [mouth_aperture(landmarks), width, eye_aspect_ratio(landmarks), brow_height(landmarks), tilt], axis=1
    )


def _mean_difference(landmarks: np.ndarray, fps: float, order: int, scale: float | None) -> float:
    steps = np.diff(landmarks[:, STABLE], n=order, axis=0) * fps**order
    return float(np.linalg.norm(steps, axis=-1).mean() / (scale or _clip_scale(landmarks)))


def _clip_scale(landmarks: np.ndarray) -> float:
    return float(np.median(inter_ocular_distance(landmarks)))
