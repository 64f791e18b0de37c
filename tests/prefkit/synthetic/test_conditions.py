"""Conditions: made once, on files that read back as what was drawn."""

import numpy as np
import pytest

from prefkit.backbones.tiny import skeleton_pixels
from prefkit.errors import PrefkitError
from prefkit.media import read_audio, read_clip, read_image
from prefkit.skeletons.keypoints import read_keypoints
from prefkit.synthetic.conditions import add_portraits, read_truth_file
from prefkit.synthetic.portrait import make_portrait
from prefkit.tables import CONDITIONS
from prefkit.workspace import Workspace


def test_files_hold_the_portrait(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    assert add_portraits(workspace, {"train": 1}, seed=0) == {"made": 1, "already_there": 0}
    (row,) = workspace.rows(CONDITIONS)
    portrait = make_portrait(0)
    assert row["identity"] == portrait.identity.name
    np.testing.assert_array_equal(read_image(workspace.path(row["reference_image"])), portrait.reference)
    np.testing.assert_array_equal(read_audio(workspace.path(row["audio"])), portrait.audio)
    skeleton = skeleton_pixels(read_clip(workspace.path(row["skeleton"])).frames)
    # what a model sees of it, in -1 to 1, survives H.264, which halves the resolution of colours
    assert (skeleton - skeleton_pixels(portrait.skeleton)).abs().mean() < 0.01
    np.testing.assert_array_equal(read_keypoints(workspace.path(row["keypoints"])), portrait.keypoints)
    np.testing.assert_array_equal(read_truth_file(workspace.path(row["truth"]))["aperture"], portrait.aperture)


def test_a_second_call_adds_only_what_is_missing_and_splits_share_nobody(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    add_portraits(workspace, {"train": 2})
    assert add_portraits(workspace, {"train": 3, "test": 1, "evaluate": 1}) == {"made": 3, "already_there": 2}
    rows = workspace.rows(CONDITIONS)
    assert len({row["identity"] for row in rows}) == len({row["condition_id"] for row in rows}) == 5
    assert sorted(row["split"] for row in rows) == ["evaluate", "test", "train", "train", "train"]


@pytest.mark.parametrize("splits", [{"train": 4000}, {"train": -1}, {"training": 1}])
def test_what_cannot_be_made_is_refused(tmp_path, splits):
    with pytest.raises(PrefkitError, match="expected 0 to 3333"):
        add_portraits(Workspace.create(tmp_path / "w"), splits)
