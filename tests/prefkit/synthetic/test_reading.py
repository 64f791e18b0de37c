"""The reader of colours sees what was drawn."""

import numpy as np

from prefkit.synthetic.portrait import NO_FAULTS, Faults, make_portrait
from prefkit.synthetic.reading import count_blinks, head_motion, keypoint_error, lip_sync, read_truth


def read(seed, faults=NO_FAULTS):
    portrait = make_portrait(seed, faults=faults)
    return portrait, read_truth(portrait.frames, portrait.keypoints)


def test_the_mouth_is_read_from_its_colour():
    found = [lip_sync(seen.mouth_area, portrait.aperture) for portrait, seen in map(read, range(10))]
    assert min(found) > 0.8


def test_lip_sync_falls_when_picture_and_truth_part():
    portrait, seen = read(0)
    shifted = np.roll(portrait.aperture, 4)
    assert lip_sync(seen.mouth_area, shifted) < lip_sync(seen.mouth_area, portrait.aperture) - 0.3


def test_a_mouth_that_never_moves_is_not_in_sync():
    portrait, seen = read(1, Faults(mouth_gain=0))
    assert lip_sync(seen.mouth_area, make_portrait(1).aperture) < 0.5
    assert lip_sync(np.zeros(25), portrait.aperture) == 0


def test_markers_are_found_where_the_skeleton_has_them():
    for seed in range(6):
        portrait, seen = read(seed)
        assert keypoint_error(seen.keypoints, portrait.keypoints) < 0.5


def test_a_displaced_skeleton_is_seen_as_such():
    portrait, seen = read(2, Faults(skeleton_shift=(3.0, 0.0)))
    assert abs(keypoint_error(seen.keypoints, portrait.keypoints) - 3) < 0.4


def test_head_motion_rises_with_jitter():
    still, shaken = (head_motion(read(3, Faults(jitter=jitter))[1].keypoints) for jitter in (0.0, 1.0))
    assert shaken > still + 0.5


def test_blinks_are_counted():
    whites = np.full(50, 12.0)
    assert count_blinks(whites, 25) == 0
    whites[10:13] = whites[30:34] = 1.0
    assert count_blinks(whites, 25) == 1.0  # two in two seconds


def test_an_empty_picture_has_no_mouth_and_no_markers():
    portrait = make_portrait(4)
    seen = read_truth(np.zeros_like(portrait.frames), portrait.keypoints)
    assert np.isnan(seen.keypoints).all()
    assert keypoint_error(seen.keypoints, portrait.keypoints) == 8.0
