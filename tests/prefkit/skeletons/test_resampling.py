import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import PrefkitError
from prefkit.skeletons.resampling import resample_frames, resample_keypoints

rates = st.floats(5, 120)


@given(frames=st.integers(1, 80), fps=rates, wanted=rates)
def test_every_frame_is_the_nearest_in_time(frames, fps, wanted):
    made = resample_frames(np.arange(frames), fps, wanted)
    assert abs(len(made) / wanted - frames / fps) <= 0.5 / wanted + 1e-9 or len(made) == 1
    if abs(fps - wanted) >= 0.01:
        away = np.abs(made / fps - np.arange(len(made)) / wanted)
        inside = np.arange(len(made)) / wanted <= (frames - 1) / fps
        assert (away[inside] <= 0.5 / fps + 1e-9).all()
    assert made[0] == 0 and (np.diff(made) >= 0).all()


def test_the_frame_rate_of_dwposes_example_becomes_the_models():
    assert len(resample_frames(np.arange(162), 24, 25)) == 169
    assert np.array_equal(resample_frames(np.arange(9), 25.0, 25.0004), np.arange(9))


def test_keypoints_move_on_straight_lines_where_both_frames_show_them():
    keypoints = np.array([[[0.0, 10, 1], [0, 0, 1]], [[2, 10, 1], [8, 8, 0]], [[4, 10, 1], [8, 8, 0]]], np.float32)
    made = resample_keypoints(keypoints, 10, 20)
    assert made[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 4]
    assert made[:, 1, 2].tolist() == [1, 1, 0, 0, 0, 0]
    assert set(made[:, 1, 0].tolist()) <= {0, 8}


def test_a_frame_rate_of_zero_is_refused():
    with pytest.raises(PrefkitError, match="frame rate of 0 per second"):
        resample_frames(np.arange(3), 0, 25)
