"""The tiny model that ships: loads offline, follows its conditions, and a clip depends on nothing but its own."""

import numpy as np
import pytest
import torch

from prefkit.backbones.contract import stack_conditioning
from prefkit.backbones.tiny import SHIPPED, TinyBackbone
from prefkit.errors import PrefkitError
from prefkit.synthetic.portrait import make_portrait
from prefkit.synthetic.reading import keypoint_error, lip_sync, read_truth


@pytest.fixture(scope="module")
def backbone():
    return TinyBackbone.from_pretrained()


@pytest.fixture(scope="module")
def portraits():
    return [make_portrait(400_000 + number) for number in range(6)]


def encoded(backbone, portraits):
    return [backbone.encode_condition(p.reference, p.audio, p.skeleton) for p in portraits]


def test_everything_that_ships_is_small():
    weights = sum(path.stat().st_size for path in SHIPPED.parent.rglob("*.safetensors"))
    assert weights <= 12e6


def test_it_animates_unseen_people(backbone, portraits):
    """Far better than chance: the mouth follows the speech and the body the skeleton."""
    latents = backbone.sample(stack_conditioning(encoded(backbone, portraits)), range(len(portraits)))
    synced, off = [], []
    for portrait, clip in zip(portraits, latents, strict=True):
        seen = read_truth(backbone.decode_clip(clip), portrait.keypoints)
        synced.append(lip_sync(seen.mouth_area, portrait.aperture))
        off.append(keypoint_error(seen.keypoints, portrait.keypoints))
    assert np.mean(synced) > 0.3
    assert np.mean(off) < 1.5


def test_a_clip_does_not_depend_on_its_batch(backbone, portraits):
    conditions = encoded(backbone, portraits[:3])
    together = backbone.sample(stack_conditioning(conditions), [5, 6, 7], num_inference_steps=2)
    alone = backbone.sample(stack_conditioning(conditions[1:2]), [6], num_inference_steps=2)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["speech", "skeleton", "reference"])
def test_every_condition_matters(backbone, portraits, name):
    conditioning = stack_conditioning(encoded(backbone, portraits[:1]))
    changed = conditioning | {name: torch.zeros_like(conditioning[name])}
    noisy = torch.randn(1, 64, 7, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([700.0])
    with torch.no_grad():
        difference = backbone.predict(noisy, timesteps, conditioning) - backbone.predict(noisy, timesteps, changed)
    assert difference.abs().max() > 0.05


def test_noise_target_and_prediction_are_one_flow(backbone):
    latents, noise = torch.ones(2, 64, 7, 8, 8), torch.zeros(2, 64, 7, 8, 8)
    timesteps = torch.tensor([250.0, 1000.0])
    noisy = backbone.add_noise(latents, noise, timesteps)
    assert noisy[0].mean() == 0.75 and noisy[1].abs().max() == 0
    assert backbone.target(latents, noise, timesteps).mean() == -1


def test_what_does_not_fit_is_named(backbone, portraits):
    portrait = portraits[0]
    with pytest.raises(PrefkitError, match="portrait is 32×32 pixels"):
        backbone.encode_condition(portrait.reference[:32, :32], portrait.audio, portrait.skeleton)
    with pytest.raises(PrefkitError, match="skeleton is 32×64 pixels"):
        backbone.encode_condition(portrait.reference, portrait.audio, portrait.skeleton[:, ::4, ::8])
    with pytest.raises(PrefkitError, match="24 frames; expected 4k"):
        backbone.encode_condition(portrait.reference, portrait.audio, portrait.skeleton[:24])
    with pytest.raises(PrefkitError, match="speech lasts 0.50 s; expected at least the skeleton's 1.00 s"):
        backbone.encode_condition(portrait.reference, portrait.audio[:8000], portrait.skeleton)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(PrefkitError, match="holds no tiny model"):
        TinyBackbone.from_pretrained(tmp_path)
