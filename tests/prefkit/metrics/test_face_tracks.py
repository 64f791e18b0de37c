"""Tracks, smoothing, crops and the grid of 25 frames a second."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.metrics.face_tracks import Sample, crop, face_track, intersection_over_union, link, smoothed, ticks


def box(x, y, size=100.0):
    return np.array([x, y, x + size, y + size], float)


def samples(*faces, stride=5):
    """Each face: a function of the sample's number that gives a box or None."""
    found = []
    for number in range(11):
        boxes = [face(number) for face in faces]
        boxes = [box for box in boxes if box is not None]
        found.append(Sample(number * stride, np.array(boxes).reshape(-1, 4)))
    return found


def test_boxes_between_samples_are_interpolated():
    track = face_track(samples(lambda n: box(10 * n, 0)), 51, 5)
    assert (track.first, len(track.boxes)) == (0, 51)
    middles = (track.boxes[:, 0] + track.boxes[:, 2]) / 2
    np.testing.assert_allclose(middles[10:41], 50 + 2 * np.arange(10, 41), atol=1e-9)


def test_the_largest_steady_face_is_taken_and_the_row_says_so():
    small, large = (lambda n: box(500, 0, 60)), (lambda n: box(0, 0, 120))
    passing = lambda n: box(200, 200, 250) if 3 <= n <= 5 else None  # noqa: E731
    track = face_track(samples(small, large, passing), 51, 5)
    assert track.boxes[20, 2] - track.boxes[20, 0] == 120
    assert track.details == {"faces": 3, "frames": [0, 50], "samples_with_this_face": 11, "samples": 11}


def test_a_short_gap_is_bridged_and_a_long_one_ends_the_track():
    bridged = link(samples(lambda n: None if n in (4, 5, 6) else box(0, 0)))
    assert [len(face) for face in bridged] == [8]
    broken = link(samples(lambda n: None if n in (2, 3, 4, 5, 6, 7) else box(0, 0)))
    assert sorted(len(face) for face in broken) == [2, 3]


def test_a_cut_ends_a_track():
    found = samples(lambda n: box(0, 0))
    found[6] = Sample(30, found[6].boxes, after_cut=True)
    track = face_track(found, 51, 5)
    assert (track.first, track.first + len(track.boxes)) == (0, 26)


def test_no_face_is_no_track():
    assert face_track(samples(lambda n: None), 51, 5) is None
    assert face_track(samples(lambda n: box(0, 0) if n == 5 else None), 51, 5).boxes.shape == (1, 4)


def test_smoothing_removes_a_jump_and_keeps_a_steady_box():
    boxes = np.tile(box(40, 60), (30, 1))
    boxes[12] += 70
    np.testing.assert_allclose(smoothed(boxes), np.tile(box(40, 60), (30, 1)))


@settings(max_examples=30, deadline=None)
@given(st.integers(-80, 300), st.integers(-80, 200), st.integers(20, 200))
def test_the_crop_shows_what_lies_around_the_box_and_grey_beyond(x, y, size):
    frame = np.full((240, 320, 3), 200, np.uint8)
    face = crop(frame, box(x, y, size), 64)
    assert face.shape == (64, 64, 3)
    assert set(np.unique(face)) <= set(range(110, 201))


def test_the_crop_is_the_published_one():
    frame = np.random.default_rng(0).integers(0, 255, (400, 400, 3)).astype(np.uint8)
    # half size 50 around (200, 150): rows 100 to 240, columns 130 to 270
    np.testing.assert_array_equal(crop(frame, box(150, 100), 140), frame[100:240, 130:270])


def test_overlap():
    np.testing.assert_allclose(
        intersection_over_union(box(0, 0), np.stack([box(0, 0), box(50, 0), box(200, 0)])), [1, 1 / 3, 0]
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(20, 60), st.integers(2, 120), st.integers(0, 1000))
def test_the_grid_is_aligned_within_half_a_frame(fps, frames, seed):
    rng = np.random.default_rng(seed)
    times = np.arange(frames) / fps + rng.uniform(0, 0.3 / fps, frames)
    times -= times[0]
    chosen = ticks(times, 0, frames - 1, 25)
    assert (np.diff(chosen) >= 0).all() and chosen[0] == 0 and chosen[-1] <= frames - 1
    off = np.abs(times[chosen] - np.arange(len(chosen)) / 25)
    assert off[:-1].max(initial=0) <= np.diff(times).max() / 2 + 1e-9


def test_at_25_a_second_every_frame_is_taken_once():
    np.testing.assert_array_equal(ticks(np.arange(250) / 25, 3, 200, 25), np.arange(3, 201))
    assert len(ticks(np.arange(300) / 30, 0, 299, 25)) == pytest.approx(250, abs=1)
