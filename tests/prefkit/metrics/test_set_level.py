"""Fréchet distances of sets: 0 for equal sets, known for normal ones, and the extractor is named."""

import numpy as np
import pytest

from prefkit.media import write_clip
from prefkit.metrics.set_features import SetClip, set_scores
from prefkit.metrics.set_level import frechet_distance, set_score
from prefkit.synthetic.portrait import Faults, make_portrait


def test_equal_sets_and_shifted_sets():
    features = np.random.default_rng(0).standard_normal((400, 4))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    # equal covariances: the squared distance of the means
    assert frechet_distance(features, features + [3, 0, 0, 4]) == pytest.approx(25, rel=1e-6)
    assert frechet_distance(features, 2 * features) == pytest.approx(4, rel=0.2)  # sum of (1 − 2)² variances


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="expected"):
        frechet_distance(np.zeros((5, 2)), np.zeros((5, 3)))
    lonely = set_score("fid", {"a": np.zeros((1, 3))}, {"b": np.zeros((9, 3))}, "a network")
    assert lonely.value is None and "fewer than 2" in lonely.error
    assert lonely.row()["extractor"] == "a network"


def portraits(folder, faults):
    clips = []
    for seed in range(21_000_000, 21_000_003):
        path = folder / f"{seed}.mp4"
        write_clip(path, make_portrait(seed, faults=faults).frames, 25)
        clips.append(SetClip(str(seed), path, {"synthetic": True}))
    return clips


def test_expression_distance_sees_frozen_faces(tmp_path):
    real, frozen, muted = (
        portraits(tmp_path / name, faults)
        for name, faults in {
            "real": Faults(),
            "frozen": Faults(frozen_expression=True),
            "muted": Faults(frozen_expression=True, mouth_gain=0.0),
        }.items()
    )
    values = []
    for other in (real, frozen, muted):
        rows = {score.metric: score for score in set_scores(real, other)}
        assert rows["fid"].value is None and "--weights inception=PATH" in rows["fid"].error
        assert rows["fvd"].value is None and rows["efid"].extractor == "mouth, eyes and brows from landmarks"
        values.append(rows["efid"].value)
    assert values[0] == pytest.approx(0, abs=1e-6) and values[0] < values[1] < values[2]
