"""Skeleton following is 1 at identity and falls with displacement; the known truth is not looked at."""

import numpy as np
import pytest

from prefkit.metrics.following import COCO_18_SIGMAS, body_size, oks, pck
from prefkit.metrics.metric import NotScored
from prefkit.synthetic.portrait import Faults, make_portrait

SIZE = np.array([60.0, 80.0])


def body(frames=10):
    points = np.random.default_rng(0).uniform(0, 60, (frames, 18, 2))
    return points, np.ones((frames, 18), bool)


def test_one_at_identity_and_falling_with_displacement():
    points, shared = body()
    for measure in (
        lambda seen: pck(seen, points, shared, SIZE),
        lambda seen: oks(seen, points, shared, SIZE, COCO_18_SIGMAS),
    ):
        noise = np.random.default_rng(1).standard_normal(points.shape)
        values = [measure(points + amount * noise) for amount in (0, 1, 3, 9, 30)]
        assert values[0] == 1
        assert values == sorted(values, reverse=True) and values[-1] < 0.2


def test_only_shared_points_count():
    points, shared = body()
    seen = points.copy()
    seen[:, 3] += 500
    shared[:, 3] = False
    assert pck(seen, points, shared, SIZE) == 1 == oks(seen, points, shared, SIZE, COCO_18_SIGMAS)
    assert np.isnan(pck(seen, points, np.zeros_like(shared), SIZE))


def test_the_body_is_as_large_as_its_visible_points():
    keypoints = np.zeros((2, 3, 3))
    keypoints[0] = [(10, 10, 1), (40, 30, 1), (900, 900, 0)]
    np.testing.assert_array_equal(body_size(keypoints), [30, 20])


def scored(tmp_path, score, shift=0.0, **about):
    portrait = make_portrait(21_000_001, faults=Faults(skeleton_shift=(shift, 0.0)))
    path = tmp_path / f"{shift}.npz"
    np.savez(path, keypoints=portrait.keypoints)
    condition = {"synthetic": True, "keypoints": str(path)}
    return score(("pose_pck", "pose_oks"), portrait.frames, condition=condition, **about)


def test_synthetic_portraits_are_read_by_the_landmark_network(tmp_path, score):
    values = {shift: scored(tmp_path, score, shift) for shift in (0.0, 1.5, 4.0, 10.0)}
    for name in ("pose_pck", "pose_oks"):
        series = [found[name].value for found in values.values()]
        assert series == sorted(series, reverse=True)
        assert series[0] > 0.9 > 0.3 > series[-1]
    assert values[0.0]["pose_pck"].details["points"] == [0, 14, 15]


def test_supplied_keypoints_are_used_for_any_clip(tmp_path, score):
    keypoints = make_portrait(21_000_001).keypoints.astype(float)
    np.savez(tmp_path / "driving.npz", keypoints=keypoints)
    frames = np.zeros((len(keypoints), 64, 64, 3), np.uint8)
    condition = {"keypoints": str(tmp_path / "driving.npz")}
    found = score("pose_oks", frames, condition=condition, supplied={"keypoints": keypoints})
    assert found.value == 1 and found.details["keypoints"] == "supplied"
    with pytest.raises(NotScored, match="5 keypoints a frame and the driving skeleton 18"):
        score("pose_oks", frames, condition=condition, supplied={"keypoints": keypoints[:, :5]})
    with pytest.raises(NotScored, match="no keypoints of the clip"):
        score("pose_oks", frames, condition=condition)
    with pytest.raises(NotScored, match="no driving keypoints"):
        score("pose_oks", frames)
