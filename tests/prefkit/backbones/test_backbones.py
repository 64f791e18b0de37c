"""Both full-size backbones behind the contract, with tiny random components."""

import numpy as np
import pytest
import torch

from prefkit.backbones.catalogue import load_backbone
from prefkit.backbones.contract import stack_conditioning, with_own_model
from prefkit.backbones.unet import PortraitUNetModel
from prefkit.backbones.unet_backbone import UNetBackbone
from prefkit.errors import PrefkitError


def test_a_clip_depends_on_its_own_seed_and_condition_alone(backbone, condition):
    one = backbone.encode_condition(**condition, text="a person talks")
    other = backbone.encode_condition(**condition | {"audio": condition["audio"][::-1].copy()})
    together = backbone.sample(stack_conditioning([one, other]), [3, 4])
    alone = backbone.sample(stack_conditioning([other]), [4])
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(backbone.sample(stack_conditioning([other]), [5]), alone)
    clip = backbone.decode_clip(alone[0])
    assert clip.shape == (9, 32, 48, 3) and clip.dtype == np.uint8
    assert backbone.encode_clip(clip).shape == alone[0].shape


def test_gradients_reach_the_motion_parts_with_and_without_checkpointing(backbone, condition):
    conditioning = stack_conditioning([backbone.encode_condition(**condition)])
    latents = backbone.encode_clip(condition["skeleton"])[None]
    noise, timesteps = torch.ones_like(latents), torch.tensor([500.0])

    def gradients():
        backbone.model.zero_grad(set_to_none=True)
        noisy = backbone.add_noise(latents, noise, timesteps)
        error = backbone.predict(noisy, timesteps, conditioning) - backbone.target(latents, noise, timesteps)
        error.square().mean().backward()
        named = backbone.model.named_parameters()
        return {name: p.grad.clone() for name, p in named if "audio_proj" in name or "skeleton" in name}

    plain = gradients()
    assert plain and all(gradient.any() for gradient in plain.values())
    backbone.model.enable_gradient_checkpointing()
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-5, rtol=1e-5)


def test_noise_and_target_are_those_of_the_prediction_type(backbone):
    latents, noise = torch.full((2, 4, 3, 4, 6), 2.0), torch.full((2, 4, 3, 4, 6), -1.0)
    timesteps = torch.tensor([1000.0, 250.0])
    noisy, target = backbone.add_noise(latents, noise, timesteps), backbone.target(latents, noise, timesteps)
    if backbone.prediction_type == "flow":
        assert torch.equal(noisy[0], noise[0]) and torch.allclose(noisy[1], torch.tensor(1.25))
        assert (target == -3).all()
    else:
        assert backbone.prediction_type == "epsilon" and torch.equal(target, noise)
        alpha = backbone.scheduler.alphas_cumprod[249]
        torch.testing.assert_close(noisy[1, 0, 0, 0, 0], alpha.sqrt() * 2 - (1 - alpha).sqrt())


def test_too_long_and_too_short_conditions_are_one_sentence(backbone, condition):
    with pytest.raises(PrefkitError, match="the skeleton has 13 frames; expected at most 9"):
        backbone.encode_condition(**condition | {"skeleton": np.tile(condition["skeleton"], (2, 1, 1, 1))[:13]})
    with pytest.raises(PrefkitError, match=r"the speech lasts 0\.10 s and the skeleton 0\.36 s"):
        backbone.encode_condition(**condition | {"audio": condition["audio"][:1600]})


def test_a_copy_with_its_own_model_predicts_and_samples_by_that(backbone, condition):
    """What the trainer does for a reference when all weights train, and evaluation for base and tuned model."""
    frozen = with_own_model(backbone)
    conditioning = stack_conditioning([backbone.encode_condition(**condition)])
    noisy, timesteps = torch.ones_like(backbone.encode_clip(condition["skeleton"]))[None], torch.tensor([500.0])
    with torch.no_grad():
        before, clip = frozen.predict(noisy, timesteps, conditioning), frozen.sample(conditioning, [1])
        for parameter in backbone.model.parameters():
            parameter.mul_(1.1)
        assert torch.equal(frozen.predict(noisy, timesteps, conditioning), before)
        assert torch.equal(frozen.sample(conditioning, [1]), clip)
        assert not torch.equal(backbone.predict(noisy, timesteps, conditioning), before)
        assert not torch.equal(backbone.sample(conditioning, [1]), clip)


def test_saved_backbones_load_by_name(backbone, condition, tmp_path):
    if backbone.name == "hallo4":
        backbone.pipeline.save_pretrained(tmp_path)
    else:
        backbone.save_pretrained(tmp_path)
    loaded = load_backbone(backbone.name, tmp_path)
    assert loaded.weights_hash == backbone.weights_hash
    assert (loaded.frame_size, loaded.num_frames, loaded.fps) == ((32, 48), 9, 25.0)
    conditioning = stack_conditioning([backbone.encode_condition(**condition)])
    again = stack_conditioning([loaded.encode_condition(**condition)])
    loaded.guidance_scale = backbone.guidance_scale = 1.0
    before = backbone.sample(conditioning, [1], num_inference_steps=2)
    after = loaded.sample(again, [1], num_inference_steps=2)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("name", ["hallo4", "unet"])
def test_missing_weights_are_asked_for(name, tmp_path):
    with pytest.raises(PrefkitError, match="--checkpoint"):
        load_backbone(name)
    with pytest.raises(PrefkitError, match="expected a folder that"):
        load_backbone(name, tmp_path)


def test_a_transformer_file_wants_its_components_beside_it(tmp_path):
    (tmp_path / "hallo4.pth").write_bytes(b"")
    (tmp_path / "vae").mkdir()
    with pytest.raises(PrefkitError, match="has no text_encoder, tokenizer, speech_encoder, feature_extractor beside"):
        load_backbone("hallo4", tmp_path / "hallo4.pth")


def test_model_and_autoencoder_must_fold_alike(unet):
    parts = (unet.speech_encoder, unet.feature_extractor, unet.scheduler)
    wrong = PortraitUNetModel.from_config(dict(unet.model.config) | {"temporal_factor": 2})
    with pytest.raises(PrefkitError, match="the UNet folds 2 frames and the autoencoder"):
        UNetBackbone(wrong, unet.vae, *parts)
