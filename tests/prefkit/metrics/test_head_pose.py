"""Yaw and pitch are found and do not leak into the mouth's aperture; head motion is monotone in its amplitude."""

import numpy as np
import pytest

from prefkit.metrics.head_pose import MEAN_FACE, fit_pose, from_the_front
from prefkit.metrics.landmarks import brow_height, expression_features, eye_aspect_ratio, mouth_aperture
from prefkit.metrics.metric import NotScored


def turned(yaw=0.0, pitch=0.0, roll=0.0, opening=1.0, scale=20.0):
    """A solid face [68, 2] in pixels; the lower lip and the chin drop by `opening` centimetres."""
    face = MEAN_FACE.copy()
    face[[65, 66, 67, 55, 56, 57, 58, 59], 1] += opening
    a, b, c = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return scale * (face @ (about_z @ about_y @ about_x).T)[:, :2] + (300, 200)


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(0, 0, 0), (25, 0, 0), (-35, 0, 0), (0, 15, 0), (0, 0, 30), (20, -10, 12)]
)
def test_the_pose_is_found(yaw, pitch, roll):
    pose = fit_pose(turned(yaw, pitch, roll)[None])
    np.testing.assert_allclose([pose.yaw[0], pose.pitch[0]], [yaw, pitch], atol=4 if yaw and pitch else 0.01)
    assert pose.scale[0] == pytest.approx(20)
    assert pose.visible[0]


def test_the_nose_points_where_the_yaw_says():
    assert turned(30)[30, 0] > turned(0)[30, 0]
    assert turned(pitch=20)[30, 1] < turned(0)[30, 1]


def test_turning_the_head_does_not_change_the_expression():
    still, aside = turned()[None], turned(30, 10)[None]
    assert mouth_aperture(aside)[0] / mouth_aperture(still)[0] - 1 > 0.1  # as it would leak
    for measure in (mouth_aperture, eye_aspect_ratio, brow_height, expression_features):
        front = measure(from_the_front(still, fit_pose(still)))
        np.testing.assert_allclose(measure(from_the_front(aside, fit_pose(aside))), front, rtol=1e-6)


def clip(landmarks):
    return {"frames": np.zeros((len(landmarks), 32, 32, 3), np.uint8), "supplied": {"landmarks": landmarks}}


def shaking(amplitude, frames=50):
    return np.stack([turned(amplitude * np.sin(frame / 4), opening=1 + np.sin(frame)) for frame in range(frames)])


def test_head_pose_is_monotone_in_yaw(score):
    values = [score("head_pose_std", **clip(shaking(amplitude))).value for amplitude in (0, 5, 10, 20, 30)]
    assert values == sorted(values) and values[0] == pytest.approx(0, abs=1e-6)
    assert values[2] == pytest.approx(10 / np.sqrt(2), rel=0.1)


def test_supplied_landmarks_are_scored_alike_from_aside(score):
    still, aside = score("mouth_range", **clip(shaking(0))), score("mouth_range", **clip(shaking(25)))
    assert aside.value == pytest.approx(still.value, rel=1e-6)
    assert aside.details["network"]["variant"] == "supplied" and aside.details["derotated"]


def test_frames_turned_away_or_without_a_face_are_left_out(score):
    landmarks = shaking(5)
    landmarks[10:14] = turned(60)
    landmarks[20:25] = np.nan
    assert score("mouth_range", **clip(landmarks)).details["frames_left_out"] == 9
    landmarks[:] = turned(60)
    with pytest.raises(NotScored, match="turned too far away"):
        score("mouth_range", **clip(landmarks))
    landmarks[:] = np.nan
    with pytest.raises(NotScored, match="less than half"):
        score("mouth_range", **clip(landmarks))


def test_the_head_moves_as_fast_seen_from_aside(score):
    speeds = [
        score("head_speed", **clip(np.stack([turned(yaw) + (frame, 0) for frame in range(20)]))).value
        for yaw in (0, 35)
    ]
    assert speeds[1] == pytest.approx(speeds[0], rel=1e-6)
