import pytest
import torch
from peft import LoraConfig

from prefkit.backbones.unet import PortraitUNetModel

# A TMM UNet small enough for tests; its widths are no multiples of the temporal factor
SIZES = {
    "in_channels": 4,
    "reference_channels": 4,
    "skeleton_channels": 4,
    "block_out_channels": (6, 10),
    "layers_per_block": 1,
    "attention_levels": (False, True),
    "num_attention_heads": 2,
    "norm_num_groups": 2,
    "cross_attention_dim": 8,
    "text_dim": 7,
    "motion_max_seq_length": 12,
    "audio_window": 3,
    "audio_blocks": 2,
    "audio_channels": 5,
    "audio_hidden_dim": 16,
    "audio_context_tokens": 2,
}


@pytest.fixture(params=[1, 4], ids=["image VAE", "video VAE"])
def model(request) -> PortraitUNetModel:
    """Random weights everywhere: as built, the joins of the skeleton are zero."""
    torch.manual_seed(0)
    model = PortraitUNetModel(**SIZES, temporal_factor=request.param)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def inputs(model) -> dict[str, torch.Tensor]:
    """Two clips of 9 frames of 6×5 latents, which do not halve evenly."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "hidden_states": normal(2, 4, 8 // model.config.temporal_factor + 1, 6, 5),
        "timestep": torch.tensor([250.0, 900.0]),
        "reference_latents": normal(2, 4, 1, 6, 5),
        "skeleton_latents": normal(2, 4, 9, 6, 5),
        "audio_embeds": normal(2, 9, 3, 2, 5),
        "encoder_hidden_states": normal(2, 3, 7),
    }


def gradients(model, inputs):
    model.zero_grad(set_to_none=True)
    model(**inputs).sample.square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_checkpointing_changes_no_gradient_and_gradients_reach_every_weight(model, inputs):
    plain = gradients(model, inputs)
    model.enable_gradient_checkpointing()
    checkpointed = gradients(model, inputs)
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-5, msg=name)
    for part in ("skeleton_pyramid", "skeleton_skips", "skeleton_middle", "audio_proj", "text_proj"):
        assert all(gradient.any() for name, gradient in plain.items() if name.startswith(part)), part


def test_checkpointing_recomputes_residual_blocks(model, inputs):
    calls = []
    for block in (block for part in (*model.unet.down_blocks, *model.unet.up_blocks) for block in part.resnets):
        block.register_forward_pre_hook(lambda block, _: calls.append(block))
    gradients(model, inputs)
    plain = len(calls)
    model.enable_gradient_checkpointing()
    gradients(model, inputs)
    assert len(calls) == 3 * plain


@pytest.mark.parametrize(
    "name", ["reference_latents", "skeleton_latents", "audio_embeds", "encoder_hidden_states", "timestep"]
)
def test_every_condition_moves_the_prediction(model, inputs, name):
    with torch.no_grad():
        before = model(**inputs).sample
        changed = inputs[name] * 0.5 if name == "timestep" else inputs[name] * -1
        after = model(**inputs | {name: changed}).sample
    assert before.shape == inputs["hidden_states"].shape
    assert (after - before).abs().max() > 1e-3


def test_the_skeleton_enters_at_each_resolution(model, inputs):
    with torch.no_grad():
        before = model(**inputs).sample
        for join in (*model.skeleton_skips, model.skeleton_middle):
            kept = join.weight.clone()
            join.weight.zero_()
            assert (model(**inputs).sample - before).abs().max() > 1e-4
            join.weight.copy_(kept)


def test_a_new_model_is_a_unet_without_a_skeleton(inputs, model):
    fresh = PortraitUNetModel(**SIZES, temporal_factor=model.config.temporal_factor)
    with torch.no_grad():
        before = fresh(**inputs).sample
        after = fresh(**inputs | {"skeleton_latents": -inputs["skeleton_latents"]}).sample
    assert torch.equal(before, after)


def test_saving_and_loading_keeps_the_model(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = PortraitUNetModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).sample, model(**inputs).sample)


def test_adapters_train_alone_and_switch_off(model, inputs):
    with torch.no_grad():
        base = model(**inputs).sample
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False))
    trained = {name for name, gradient in gradients(model, inputs).items() if gradient is not None}
    assert trained and all("lora" in name for name in trained)
    assert any("motion_modules" in name for name in trained) and any("attn2" in name for name in trained)
    with torch.no_grad():
        adapted = model(**inputs).sample
        assert (adapted - base).abs().max() > 1e-3
        torch.testing.assert_close(model(**inputs, attention_kwargs={"scale": 0.0}).sample, base)
        model.disable_adapters()
        assert torch.equal(model(**inputs).sample, base)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("hidden_states", (2, 5, 3, 6, 5), r"latents of shape \(2, 5, 3, 6, 5\), expected \(2, 4, 3, 6, 5\)"),
        ("hidden_states", (2, 4, 13, 6, 5), "with F from 1 to 12"),
        ("reference_latents", (2, 4, 2, 6, 5), r"reference latents .* expected \(2, 4, 1, 6, 5\)"),
        ("skeleton_latents", (2, 4, 8, 6, 5), r"skeleton latents of shape .*8.* expected \(2, 4, 9, 6, 5\) .*9 frames"),
        ("audio_embeds", (2, 7, 3, 2, 5), r"audio features .*7.* expected \(2, 9, 3, 2, 5\)"),
        ("encoder_hidden_states", (2, 3, 8), r"text of shape .* expected \(2, 3, 7\)"),
    ],
)
def test_wrong_shapes_are_named_with_what_was_expected(model, inputs, name, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        model(**inputs | {name: torch.zeros(shape)})


def test_levels_and_widths_must_match():
    with pytest.raises(ValueError, match="Found 3 attention levels, expected one for each of 2 widths"):
        PortraitUNetModel(**SIZES | {"attention_levels": (True, True, True)})
