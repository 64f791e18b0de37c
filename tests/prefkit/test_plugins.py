"""A package that somebody else installs: found by the entry point in its dist-info folder, as pip leaves one."""

import sys
from pathlib import Path

import numpy as np
import pytest

from prefkit.backbones.catalogue import load_backbone
from prefkit.errors import PrefkitError
from prefkit.plugins import BACKBONES, METRICS, load_plugin, plugin_names

# The example of CONTRIBUTING.md
EXAMPLE = '''
from prefkit.backbones.tiny import TinyBackbone


class MirroredBackbone(TinyBackbone):
    """The tiny model, seen in a mirror."""

    name = "mirrored"

    def decode_clip(self, latents):
        return super().decode_clip(latents)[:, :, ::-1]
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    (tmp_path / "mirrored_portraits.py").write_text(EXAMPLE)
    info = tmp_path / "mirrored_portraits-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mirrored-portraits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[prefkit.backbones]\nmirrored = mirrored_portraits:MirroredBackbone\nbroken = no_such_package:Thing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mirrored_portraits", None)


def test_an_entry_point_is_found_by_its_name(installed):
    assert plugin_names(BACKBONES) == ["broken", "mirrored"]
    assert plugin_names(METRICS) == []
    backbone = load_backbone("mirrored")
    tiny = load_backbone("tiny")
    assert backbone.name == "mirrored" and backbone.weights_hash == tiny.weights_hash
    frames = tiny.encode_clip(_frames())
    assert (backbone.decode_clip(frames) == tiny.decode_clip(frames)[:, :, ::-1]).all()


def test_a_class_needs_no_entry_point(installed):
    assert load_plugin(BACKBONES, "mirrored_portraits:MirroredBackbone").name == "mirrored"
    assert load_backbone("prefkit.backbones.tiny:TinyBackbone").name == "tiny"


def test_the_contributors_guide_shows_this_example():
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    assert EXAMPLE.strip() in guide


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mirrord", "offers the backbone 'mirrord'.*did you mean 'mirrored'"),
        ("hallo", "did you mean 'hallo4'"),
        ("broken", "'broken' stands for no_such_package:Thing, which cannot be loaded .*no_such_package"),
        ("prefkit.backbones.tiny:Tiny", "cannot be loaded .*Tiny"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(installed, name, sentence):
    with pytest.raises(PrefkitError, match=sentence):
        load_backbone(name)


def _frames():
    return np.random.default_rng(0).integers(0, 256, (25, 64, 64, 3), np.uint8)
