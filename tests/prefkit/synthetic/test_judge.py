"""Simulated annotators prefer what is nearer to the truth."""

import numpy as np

from prefkit.synthetic.judge import judge_landmarks
from prefkit.synthetic.portrait import NO_FAULTS, Faults, make_portrait


def qualities(seed, faults=NO_FAULTS, shift=0):
    """Of a clip with faults, judged by landmarks that are seen perfectly against the faultless truth."""
    true, shown = make_portrait(seed), make_portrait(seed, faults=faults)
    truth = {"aperture": true.aperture, "landmarks": true.landmarks}
    return judge_landmarks(np.roll(shown.landmarks, shift, axis=0), truth)


def test_the_truth_is_the_best_clip():
    for seed in range(5):
        found = qualities(seed)
        assert found["expression"] == 0
        assert found["motion_video_alignment"] > 0.95


def test_late_lips_a_still_face_and_a_wrong_place_cost_quality():
    for seed in range(5):
        best = qualities(seed)
        assert qualities(seed, shift=3)["motion_video_alignment"] < best["motion_video_alignment"] - 0.2
        assert qualities(seed, Faults(mouth_gain=0))["overall"] < best["overall"] - 0.5
    frozen = [qualities(seed, Faults(frozen_expression=True))["expression"] for seed in range(5)]
    assert max(frozen) < 0
