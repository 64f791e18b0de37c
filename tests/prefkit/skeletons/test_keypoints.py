"""Driving keypoints say what size they are in, and find their place in frames of another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.backbones.framing import fit_pixels
from prefkit.errors import PrefkitError
from prefkit.skeletons.keypoints import place_keypoints, read_keypoints, write_keypoints


@given(
    size=st.tuples(st.integers(40, 90), st.integers(40, 90)),
    frame_size=st.tuples(st.sampled_from([32, 48, 64]), st.sampled_from([32, 48, 64])),
    at=st.tuples(st.floats(0.3, 0.7), st.floats(0.45, 0.55)),
)
def test_a_point_stays_on_what_it_marked(size, frame_size, at):
    """A bright square, put into the frame as the backbones do, is where its keypoint goes."""
    row, column = round(at[0] * size[0]), round(at[1] * size[1])
    picture = np.zeros((1, *size, 3), np.uint8)
    picture[0, row - 3 : row + 4, column - 3 : column + 4] = 255
    frame = fit_pixels(picture, frame_size)[0, 0].numpy() + 1
    weight = frame / frame.sum()
    centre = (weight.sum(0) @ np.arange(frame_size[1]), weight.sum(1) @ np.arange(frame_size[0]))
    placed = place_keypoints(np.array([[[column + 0.5, row + 0.5, 1.0]]]), size, frame_size)[0, 0]
    np.testing.assert_allclose(placed[:2] - 0.5, centre, atol=0.8)


def test_a_file_keeps_its_size_and_an_old_one_is_taken_as_it_is(tmp_path):
    points = np.random.default_rng(0).uniform(0, 90, (5, 18, 3))
    write_keypoints(tmp_path / "a.npz", points, (90, 60))
    np.testing.assert_array_equal(read_keypoints(tmp_path / "a.npz"), points)
    np.testing.assert_allclose(read_keypoints(tmp_path / "a.npz", (45, 30))[..., :2], points[..., :2] / 2)
    np.savez(tmp_path / "old.npz", keypoints=points)
    np.testing.assert_array_equal(read_keypoints(tmp_path / "old.npz", (45, 30)), points)


@pytest.mark.parametrize("stored", [{"keypoints": np.zeros((5, 18))}, {"points": np.zeros((5, 18, 3))}])
def test_what_is_no_file_of_keypoints_is_a_sentence(tmp_path, stored):
    np.savez(tmp_path / "wrong.npz", **stored)
    with pytest.raises(PrefkitError, match="wrong.npz"):
        read_keypoints(tmp_path / "wrong.npz")
