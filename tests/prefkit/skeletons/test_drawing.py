import hashlib

import numpy as np
import pytest

from prefkit.errors import PrefkitError
from prefkit.skeletons.drawing import draw_skeleton
from prefkit.synthetic.portrait import make_portrait


def body(**places):
    points = np.zeros((1, 18, 3), np.float32)
    for index, place in places.items():
        points[0, int(index[1:])] = (*place, 1)
    return points


@pytest.mark.parametrize("size", [(96, 96), (480, 832), (768, 768)])
def test_limbs_lie_between_visible_points_in_openposes_colours(size):
    high, wide = size
    right_arm = body(p2=(0.25 * wide, 0.25 * high), p3=(0.25 * wide, 0.75 * high))
    frame = draw_skeleton(right_arm, size)[0]
    assert frame.shape == (high, wide, 3)
    assert frame[high // 2, wide // 4].tolist() == [153, 102, 0]  # 0.6 of (255, 170, 0)
    assert frame[round(0.25 * high), round(0.25 * wide)].tolist() == [255, 170, 0]
    assert not frame[:, wide // 2 :].any()
    hidden = right_arm.copy()
    hidden[0, 3, 2] = 0
    assert not draw_skeleton(hidden, size)[0][high // 2].any()


def test_limbs_grow_with_the_frame():
    widths = [
        np.count_nonzero(draw_skeleton(body(p2=(s / 2, s / 8), p3=(s / 2, 7 * s / 8)), (s, s))[0][s // 2].any(axis=1))
        for s in (768, 1536)
    ]
    assert abs(widths[0] - 9) <= 1 and abs(widths[1] - 17) <= 1


def test_hands_and_face_are_drawn_and_the_mouth_is_not():
    points = np.zeros((1, 128, 3), np.float32)
    points[0, 18:86] = [[100 + 3 * index, 100, 1] for index in range(68)]
    frame = draw_skeleton(points, (768, 768))[0]
    drawn = np.flatnonzero(frame[100].all(axis=1))
    assert drawn.min() <= 100 and 100 + 3 * 47 <= drawn.max() < 100 + 3 * 48 + 2
    points = np.zeros((1, 128, 3), np.float32)
    points[0, 86:107] = [[100 + 10 * index, 300, 1] for index in range(21)]
    assert draw_skeleton(points, (768, 768))[0][300, 100].tolist() == [0, 0, 255]


def test_another_number_of_points_is_refused():
    with pytest.raises(PrefkitError, match=r"shape \(3, 17, 3\); expected \[T, 18, 3\]"):
        draw_skeleton(np.zeros((3, 17, 3)), (64, 64))


def test_the_skeletons_of_synthetic_portraits_stay_those_the_tiny_model_knows():
    digest = hashlib.sha256(make_portrait(5).skeleton.tobytes()).hexdigest()
    assert digest == "1559d79b343fc20732e5fd7ef48423d9c7c453e6d69bc095e08d765bde2b04fd"
