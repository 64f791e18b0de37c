import numpy as np
import pytest
import torch
from peft import LoraConfig

from prefkit.backbones.adapters import load_adapter, save_adapter
from prefkit.backbones.framing import fit_pixels
from prefkit.backbones.hallo4_backbone import Hallo4Backbone
from prefkit.backbones.latents import encode_frames_alone, encode_pixels
from prefkit.backbones.pipeline import PortraitPipeline, blank_patches, first_frame_mask
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.errors import PrefkitError


def make(pipeline, condition, **options):
    given = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)} | condition | options
    return pipeline(**given).frames


def test_a_video_comes_out_at_the_portraits_shape_and_follows_its_seed(pipeline, condition):
    video = make(pipeline, condition)
    assert video.shape == (1, 9, 32, 48, 3) and 0 <= video.min() and video.max() <= 1
    assert np.array_equal(video, make(pipeline, condition))
    assert not np.array_equal(video, make(pipeline, condition, generator=torch.Generator().manual_seed(1)))
    narrow = condition | {"portrait": condition["portrait"][:, :64], "skeleton": condition["skeleton"][:, :, :64]}
    assert make(pipeline, narrow).shape == (1, 9, 32, 32, 3)
    assert make(pipeline, condition, output_type="pil")[0][0].size == (48, 32)


@pytest.mark.parametrize("changed", ["portrait", "audio", "skeleton", "prompt"])
def test_every_input_counts(pipeline, condition, changed):
    before = make(pipeline, condition, output_type="latent")[0]
    given = {"prompt": "a person talks"} if changed == "prompt" else {changed: condition[changed][::-1].copy()}
    assert (make(pipeline, condition | given, output_type="latent")[0] - before).abs().max() > 1e-4


def test_many_videos_of_a_condition_encode_it_once(pipeline, condition, monkeypatch):
    calls = {"speech": 0, "text": 0, "images": 0}
    count_calls(monkeypatch, pipeline, calls)
    make(pipeline, condition)
    once = dict(calls)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1, 2)]
    three = make(pipeline, condition, num_videos_per_condition=3, generator=generators, output_type="latent")[0]
    assert {name: calls[name] - once[name] for name in calls} == once
    for seed, video in enumerate(three):
        alone = make(pipeline, condition, generator=torch.Generator().manual_seed(seed), output_type="latent")[0]
        torch.testing.assert_close(video, alone[0], atol=1e-5, rtol=1e-5)


def count_calls(monkeypatch, pipeline, calls):
    pipeline.speech_encoder.register_forward_hook(lambda *_: calls.__setitem__("speech", calls["speech"] + 1))
    pipeline.text_encoder.register_forward_hook(lambda *_: calls.__setitem__("text", calls["text"] + 1))
    encode = pipeline.vae.encode

    def counted(pixels, *args, **kwargs):
        calls["images"] += len(pixels)
        return encode(pixels, *args, **kwargs)

    monkeypatch.setattr(pipeline.vae, "encode", counted)


def test_the_network_sees_the_reference_at_every_step_and_zero_speech_without_the_condition(pipeline, condition):
    seen = []

    def spy(module, args, kwargs):
        seen.append(kwargs)

    pipeline.transformer.register_forward_pre_hook(spy, with_kwargs=True)
    make(pipeline, condition, prompt="a person talks")
    assert len(seen) == 4
    reference = encode_pixels(pipeline.vae, fit_pixels(condition["portrait"][None], (32, 48))[None])
    for given, without in zip(seen[::2], seen[1::2], strict=True):
        torch.testing.assert_close(given["hidden_states"][:, :, :1], reference)
        assert given["audio_embeds"].any() and not without["audio_embeds"].any()
        assert torch.equal(given["skeleton_latents"], without["skeleton_latents"])
        assert not torch.equal(given["encoder_hidden_states"], without["encoder_hidden_states"])
        assert given["encoder_hidden_states"].shape == (1, 512, 8)
        assert not given["encoder_hidden_states"][:, 4:].any()


def test_speech_has_a_window_of_five_frames_held_at_the_ends(pipeline, condition):
    conditioning = pipeline.encode_condition(**condition, prompt=None, size=(32, 48))
    assert conditioning["speech"].shape == (9, 2, 8)
    windows = pipeline._speech_windows(conditioning["speech"][None])[0]
    for frame in range(9):
        for place, neighbour in enumerate(range(frame - 2, frame + 3)):
            assert torch.equal(windows[frame, place], conditioning["speech"][min(max(neighbour, 0), 8)])


def test_every_skeleton_frame_is_encoded_alone(pipeline, condition):
    conditioning = pipeline.encode_condition(**condition, prompt=None, size=(32, 48))
    third = fit_pixels(condition["skeleton"][2:3], (32, 48))
    torch.testing.assert_close(conditioning["skeleton"][:, 2:3], encode_frames_alone(pipeline.vae, third))


def test_the_control_context_is_vaces(pipeline, condition):
    batch = {
        name: tensor[None]
        for name, tensor in pipeline.encode_condition(**condition, prompt=None, size=(32, 48)).items()
    }
    control = pipeline.control(batch)
    assert control.shape == (1, 4 + 4 + 64, 4, 4, 6)
    empty = encode_pixels(pipeline.vae, torch.zeros(1, 3, 9, 32, 48))
    assert torch.equal(control[:, :4, :1], batch["reference"])
    assert not control[:, 4:, 0].any()
    torch.testing.assert_close(control[:, :4, 1:], empty)
    torch.testing.assert_close(control[:, 4:8, 1:], empty)
    assert (control[:, 8:, 1:] == 1).all()
    going_on = pipeline.control(batch, torch.full((1, 3, 32, 48), 0.5), torch.Generator().manual_seed(0))
    assert not torch.allclose(going_on[:, :4, 1:], empty)
    torch.testing.assert_close(going_on[:, 4:8], control[:, 4:8])


def test_the_mask_of_a_first_frame_is_folded_by_the_nearest_frame():
    assert first_frame_mask(1, 4).tolist() == [0]
    assert first_frame_mask(21, 4).tolist() == [1] * 21
    assert first_frame_mask(3, 1).tolist() == [0, 1, 1]


def test_a_tenth_of_the_patches_is_blanked():
    frame = blank_patches(torch.ones(2, 3, 20, 40), torch.Generator().manual_seed(0))
    assert (frame == -1).float().mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.1, 0.1])
    patches = frame.unflatten(2, (10, 2)).unflatten(4, (20, 2))
    assert torch.equal(patches.amax(dim=(1, 3, 5)), patches.amin(dim=(1, 3, 5)))


def test_a_long_clip_goes_on_from_its_last_frame(pipeline, condition, monkeypatch):
    long = {
        "portrait": condition["portrait"],
        "audio": np.tile(condition["audio"], 3),
        "skeleton": np.concatenate([condition["skeleton"], condition["skeleton"][::-1], condition["skeleton"][:3]]),
    }
    firsts = []
    control = pipeline.control

    def watched(conditioning, first_frame=None, generator=None):
        firsts.append(first_frame)
        assert conditioning["skeleton"].shape[2] == 9 and conditioning["speech"].shape[1] == 9
        return control(conditioning, first_frame, generator)

    monkeypatch.setattr(pipeline, "control", watched)
    video = make(pipeline, long, output_type="pt")
    assert video.shape == (1, 21, 3, 32, 48)
    assert firsts[0] is None and len(firsts) == 3
    for index, frame in enumerate(firsts[1:], start=1):
        torch.testing.assert_close(frame / 2 + 0.5, video[:, 8 * index])


def test_keypoints_are_drawn_and_other_frame_rates_resampled(pipeline, condition):
    rng = np.random.default_rng(1)
    keypoints = np.concatenate([rng.uniform(5, 60, (9, 18, 2)), np.ones((9, 18, 1))], axis=2)
    given = {name: condition[name] for name in ("portrait", "audio")}
    drawn = make(pipeline, given, keypoints=keypoints, output_type="latent")[0]
    assert drawn.shape == (1, 4, 3, 4, 6)
    slow = np.repeat(condition["skeleton"][::2], 2, axis=0)[:9]
    twice = make(pipeline, given, skeleton=slow[::2], skeleton_fps=12.5 * 10 / 9, output_type="latent")[0]
    assert twice.shape == drawn.shape


def test_saving_and_loading_keeps_the_pipeline(pipeline, condition, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = PortraitPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert (loaded.config.num_frames, loaded.config.height) == (9, 32)
    before, after = (make(model, condition, output_type="latent")[0] for model in (pipeline, loaded))
    torch.testing.assert_close(after, before)


def test_lora_weights_load_as_trainers_and_as_diffusers_save_them(pipeline, condition, tmp_path):
    base = make(pipeline, condition, output_type="latent")[0]
    backbone = Hallo4Backbone(pipeline)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipeline.transformer.add_adapter(config)
    tuned = make(pipeline, condition, output_type="latent")[0]
    assert (tuned - base).abs().max() > 1e-4
    save_adapter(backbone, tmp_path / "ours")
    pipeline.transformer.save_lora_adapter(tmp_path / "diffusers")
    pipeline.unload_lora_weights()
    torch.testing.assert_close(make(pipeline, condition, output_type="latent")[0], base)
    for folder in ("ours", "diffusers"):
        pipeline.load_lora_weights(tmp_path / folder)
        torch.testing.assert_close(make(pipeline, condition, output_type="latent")[0], tuned)
        off = make(pipeline, condition, output_type="latent", attention_kwargs={"scale": 0.0})[0]
        torch.testing.assert_close(off, base, atol=1e-5, rtol=1e-5)
        pipeline.unload_lora_weights()
    load_adapter(backbone, tmp_path / "ours")
    torch.testing.assert_close(make(pipeline, condition, output_type="latent")[0], tuned)


def test_a_callback_sees_and_changes_every_step_and_the_bar_moves(pipeline, condition, capfd):
    steps = []

    def stop(pipeline, step, timestep, tensors):
        steps.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    pipeline.set_progress_bar_config(disable=False)
    latents = make(pipeline, condition, callback_on_step_end=stop, output_type="latent")[0]
    assert steps == [0, 1] and not latents.any()
    assert "2/2" in capfd.readouterr().err


def test_every_network_is_in_the_order_of_offloading(pipeline):
    order = pipeline.model_cpu_offload_seq.split("->")
    assert set(order) == {name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


@pytest.mark.needs_accelerator
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator to offload from")
def test_offloading_changes_no_clip(pipeline, condition):
    before = make(pipeline.to("cuda"), condition, output_type="latent")[0]
    pipeline.to("cpu").enable_model_cpu_offload()
    after = make(pipeline, condition, output_type="latent")[0]
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)
    assert pipeline.transformer.device.type == "cpu"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"skeleton": 8}, "the skeleton has 8 frames; expected 4k \\+ 1, so cut it to 5 or lengthen it to 9"),
        ({"audio": 4000}, r"the speech lasts 0\.25 s and the skeleton 0\.36 s \(9 frames at 25 fps\)"),
        ({"height": 40}, "frames of 48×40 were asked for; expected sides that 16 divides"),
        ({"generator": [torch.Generator()], "num_videos_per_condition": 2}, "1 generators for 2 videos"),
        ({"skeleton": None}, "neither of skeleton frames and keypoints"),
        ({"keypoints": np.zeros((9, 18, 3))}, "both of skeleton frames and keypoints"),
    ],
)
def test_bad_input_is_one_sentence_with_sizes(pipeline, condition, given, sentence):
    cut = {name: condition[name][:size] for name, size in given.items() if isinstance(size, int) and name in condition}
    with pytest.raises(PrefkitError, match=sentence):
        make(pipeline, condition | given | cut)


def test_a_text_without_an_encoder_is_refused_and_no_text_is_fine(pipeline, condition):
    pipeline.text_encoder = None
    assert make(pipeline, condition, output_type="latent")[0].isfinite().all()
    with pytest.raises(PrefkitError, match="the text 'a person' and a backbone without a text encoder"):
        make(pipeline, condition, prompt="a person")


def test_a_transformer_that_does_not_fit_the_autoencoder_is_refused(pipeline):
    config = dict(pipeline.transformer.config) | {"vace_in_channels": 96}
    parts = pipeline.components | {"transformer": PortraitWanTransformer3DModel.from_config(config)}
    with pytest.raises(PrefkitError, match="96 control channels and a temporal factor of 4; expected 72 and 4"):
        PortraitPipeline(**parts)
