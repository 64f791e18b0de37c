"""Conditions of one's own: from a folder or a manifest into a workspace."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from prefkit.errors import PrefkitError
from prefkit.importing.conditions import add_conditions
from prefkit.media import read_audio, read_clip, write_clip, write_image, write_wav
from prefkit.sampling import sample_candidates
from prefkit.synthetic.portrait import make_portrait
from prefkit.tables import CANDIDATES, CONDITIONS
from prefkit.workspace import Workspace

MEDIA = Path(__file__).parents[3] / "shared" / "media"


@pytest.fixture
def source(tmp_path):
    """Two conditions: one with drawn frames at 12.5 fps and a text, one with keypoints."""
    drawn, points = tmp_path / "source" / "anna", tmp_path / "source" / "ben"
    for place, seed in ((drawn, 1), (points, 2)):
        portrait = make_portrait(seed)
        write_image(place / "portrait.png", portrait.reference)
        write_wav(place / "speech.wav", portrait.audio)
    write_clip(drawn / "skeleton.mp4", make_portrait(1).skeleton[::2], 12.5)
    (drawn / "text.txt").write_text("a person talks\n")
    np.savez(points / "keypoints.npz", keypoints=make_portrait(2).keypoints)
    return tmp_path / "source"


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w")


def test_a_folder_becomes_conditions_that_can_be_sampled(source, workspace):
    assert add_conditions(workspace, source) == {"made": 2, "already_there": 0}
    first, second = workspace.rows(CONDITIONS)
    assert (first["identity"], first["text"], first["split"]) == ("anna", "a person talks", "train")
    assert (first["fps"], first["num_frames"], second["num_frames"]) == (25.0, 25, 25)
    assert len(read_audio(workspace.path(first["audio"]))) == 16000
    assert read_clip(workspace.path(first["skeleton"])).frames.shape == (25, 256, 256, 3)
    drawn = read_clip(workspace.path(second["skeleton"]))
    assert drawn.frames.shape == (25, 64, 64, 3) and drawn.fps == 25 and drawn.frames.max() > 100
    assert np.load(workspace.path(second["keypoints"]))["keypoints"].shape == (25, 18, 3)
    assert add_conditions(workspace, source) == {"made": 0, "already_there": 2}


def test_conditions_of_another_frame_rate_are_resampled_for_the_backbone(source, workspace):
    from prefkit.backbones.tiny import TinyBackbone

    shutil.rmtree(source / "ben")
    add_conditions(workspace, source, fps=30.0)
    assert workspace.rows(CONDITIONS)[0]["num_frames"] == 30
    summary = sample_candidates(workspace, TinyBackbone.from_pretrained(), per_condition=1, num_inference_steps=1)
    assert summary["made"] == 1
    assert workspace.rows(CANDIDATES)[0]["num_frames"] == 25


def test_a_manifest_says_more(source, workspace):
    rows = [
        {"condition": "one", "reference_image": "anna/portrait.png", "audio": "anna/speech.wav",
         "keypoints": "ben/keypoints.npz", "identity": "anna", "split": "evaluate", "licence": "CC0", "consent": "yes"},
    ]  # fmt: skip
    (source / "conditions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    add_conditions(workspace, source / "conditions.jsonl")
    (row,) = workspace.rows(CONDITIONS)
    assert (row["split"], row["licence"], row["consent"], row["text"]) == ("evaluate", "CC0", "yes", None)


def test_nothing_is_added_when_one_condition_cannot_be_used(source, workspace):
    portrait = make_portrait(2)
    write_wav(source / "ben" / "speech.wav", portrait.audio[:8000])
    with pytest.raises(PrefkitError, match=r"'ben' lasts 0\.50 s and its skeleton 1\.00 s \(25 frames at 25 fps\)"):
        add_conditions(workspace, source)
    assert workspace.rows(CONDITIONS) == []
    assert not list(workspace.root.glob("media/*"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: (s / "anna" / "portrait.png").unlink(), "has no reference_image.*a file portrait"),
        (lambda s: (s / "ben" / "keypoints.npz").unlink(), "has no motion; expected exactly one of skeleton"),
        (lambda s: shutil.copy(s / "anna" / "skeleton.mp4", s / "ben"), "has skeleton and keypoints; expected exactly"),
        (lambda s: np.savez(s / "ben" / "keypoints.npz", other=np.zeros(3)), "cannot be read as keypoints"),
        (lambda s: np.savez(s / "ben" / "keypoints.npz", keypoints=np.zeros((25, 17, 3))), r"shape \(25, 17, 3\)"),
        (
            lambda s: write_image(s / "anna" / "portrait.png", np.zeros((64, 96, 3), np.uint8)),
            "'anna' is 96×64 pixels and its skeleton 256×256",
        ),
        (lambda s: shutil.move(s / "anna" / "skeleton.mp4", s / "anna" / "driving.mp4"), "name a DWPose or RTMPose"),
    ],
)
def test_each_mistake_is_one_sentence(source, workspace, change, sentence):
    change(source)
    with pytest.raises(PrefkitError, match=sentence):
        add_conditions(workspace, source)


def test_an_identity_has_one_split(source, workspace):
    add_conditions(workspace, source)
    (source / "more.csv").write_text(
        "condition,reference_image,audio,keypoints,identity,split\n"
        "x,ben/portrait.png,ben/speech.wav,ben/keypoints.npz,anna,test\n"
    )
    with pytest.raises(PrefkitError, match="'anna' is in the splits train and test"):
        add_conditions(workspace, source / "more.csv")
    (source / "more.csv").write_text("condition,portrait\nx,y\n")
    with pytest.raises(PrefkitError, match="a column 'portrait'"):
        add_conditions(workspace, source / "more.csv")


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the media of ../shared are not here")
def test_a_dwpose_video_with_its_speech_comes_in(tmp_path, workspace):
    place = tmp_path / "source" / "someone"
    place.mkdir(parents=True)
    write_image(place / "portrait.png", np.zeros((64, 64, 3), np.uint8))
    shutil.copy(MEDIA / "speech_44k.wav", place / "speech.wav")
    shutil.copy(MEDIA / "skeleton_24fps.mp4", place / "skeleton.mp4")
    add_conditions(workspace, tmp_path / "source")
    (row,) = workspace.rows(CONDITIONS)
    assert (row["fps"], row["num_frames"]) == (25.0, 168)
