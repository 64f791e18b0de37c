import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from peft import LoraConfig

from prefkit.backbones.blocks import PortraitAttnProcessor
from prefkit.backbones.transformer import PortraitWanTransformer3DModel

# A TMM transformer small enough for tests
SIZES = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 6,
    "out_channels": 6,
    "text_dim": 8,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "vace_layers": (0, 1),
    "vace_in_channels": 10,
    "skeleton_channels": 6,
    "audio_window": 3,
    "audio_blocks": 2,
    "audio_channels": 5,
    "audio_hidden_dim": 16,
    "audio_context_tokens": 2,
}


@pytest.fixture
def model() -> PortraitWanTransformer3DModel:
    """Random weights everywhere: as built, the new branches and the output are zero."""
    torch.manual_seed(0)
    model = PortraitWanTransformer3DModel(**SIZES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    """Two clips of 9 frames: 1 reference latent and 3 video latents of 4×6."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "hidden_states": normal(2, 6, 4, 4, 6),
        "timestep": torch.tensor([250.0, 900.0]),
        "encoder_hidden_states": normal(2, 3, 8),
        "control_hidden_states": normal(2, 10, 4, 4, 6),
        "skeleton_latents": normal(2, 6, 9, 4, 6),
        "audio_embeds": normal(2, 9, 3, 2, 5),
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
        assert gradient is not None and gradient.any(), name
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-5, msg=name)


def test_checkpointing_recomputes_blocks(model, inputs):
    calls = []
    for block in (*model.blocks, *model.vace_blocks):
        block.register_forward_pre_hook(lambda block, _: calls.append(block))
    model.enable_gradient_checkpointing()
    gradients(model, inputs)
    assert len(calls) == 2 * 4
    calls.clear()
    with torch.no_grad():
        model(**inputs)
    assert len(calls) == 4


def test_a_new_model_ignores_skeleton_and_audio_and_predicts_zero(inputs):
    fresh = PortraitWanTransformer3DModel(**SIZES)
    assert not fresh(**inputs).sample.any()
    torch.nn.init.normal_(fresh.proj_out.weight)
    before = fresh(**inputs).sample
    changed = inputs | {name: torch.zeros_like(inputs[name]) for name in ("skeleton_latents", "audio_embeds")}
    torch.testing.assert_close(fresh(**changed).sample, before)


@pytest.mark.parametrize("name", ["skeleton_latents", "audio_embeds", "control_hidden_states", "encoder_hidden_states"])
def test_every_condition_moves_the_velocity(model, inputs, name):
    with torch.no_grad():
        before = model(**inputs).sample
        after = model(**inputs | {name: inputs[name] + 1}).sample
    assert (after - before).abs().max() > 1e-3


def test_the_rotation_is_diffusers_own(inputs):
    torch.manual_seed(0)
    model = PortraitWanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, num_layers=1, vace_layers=(0,))
    attention, x = model.blocks[0].attn1, torch.randn(2, 24, 24)
    cosines, sines = model.rope(inputs["hidden_states"])
    turn = torch.complex(cosines[0, :, :, ::2].float(), sines[0, :, :, ::2].float())
    theirs = WanAttnProcessor()(attention, x, rotary_emb=(cosines, sines))
    torch.testing.assert_close(PortraitAttnProcessor()(attention, x, rotary_emb=turn), theirs, atol=1e-6, rtol=1e-5)


def test_one_text_token_answers_as_its_copies_do(model, inputs):
    single = inputs["encoder_hidden_states"][:, :1]
    with torch.no_grad():
        once = model(**inputs | {"encoder_hidden_states": single}).sample
        thrice = model(**inputs | {"encoder_hidden_states": single.expand(-1, 3, -1)}).sample
    torch.testing.assert_close(once, thrice, atol=1e-5, rtol=1e-5)


def test_control_scale_zero_silences_the_control_branch(model, inputs):
    silent = inputs | {"control_hidden_states_scale": torch.zeros(2)}
    with torch.no_grad():
        before = model(**silent).sample
        after = model(**silent | {"control_hidden_states": inputs["control_hidden_states"] + 1}).sample
    assert torch.equal(before, after)
    with pytest.raises(ValueError, match="Found 3 control scales, expected one for each of 2"):
        model(**inputs | {"control_hidden_states_scale": torch.ones(3)})


def test_saving_and_loading_keeps_the_model(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = PortraitWanTransformer3DModel.from_pretrained(tmp_path)
    assert {name: _plain(loaded.config[name]) for name in SIZES} == {name: _plain(size) for name, size in SIZES.items()}
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).sample, model(**inputs).sample)


def _plain(size):
    return list(size) if isinstance(size, tuple) else size


def test_half_precision_stays_near(model, inputs):
    with torch.no_grad():
        exact = model(**inputs).sample
        low = model.to(torch.bfloat16)(**{name: tensor.bfloat16() for name, tensor in inputs.items()}).sample
    assert low.dtype == torch.bfloat16
    assert (low - exact).abs().mean() < 0.1 * exact.std()


@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_diffusers_attention_backends_compute_the_same(model, inputs, backend):
    with torch.no_grad():
        before = model(**inputs).sample
        model.set_attention_backend(backend)
        torch.testing.assert_close(model(**inputs).sample, before, atol=1e-5, rtol=1e-4)
    attentions = [module.processor for module in model.modules() if hasattr(module, "processor")]
    assert attentions and all(processor._attention_backend == backend for processor in attentions)


def test_adapters_train_alone_and_switch_off(model, inputs):
    with torch.no_grad():
        base = model(**inputs).sample
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False))
    trained = {name for name, gradient in gradients(model, inputs).items() if gradient is not None}
    assert trained and all("lora" in name for name in trained)
    assert any("audio_attn" in name for name in trained) and any("condition_attn" in name for name in trained)
    with torch.no_grad():
        adapted = model(**inputs).sample
        assert (adapted - base).abs().max() > 1e-3
        torch.testing.assert_close(model(**inputs, attention_kwargs={"scale": 0.0}).sample, base)
        torch.testing.assert_close(model(**inputs).sample, adapted)
        model.disable_adapters()
        assert torch.equal(model(**inputs).sample, base)
        model.enable_adapters()
        assert torch.equal(model(**inputs).sample, adapted)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("hidden_states", (2, 5, 4, 4, 6), r"latents of shape \(2, 5, 4, 4, 6\), expected \(2, 6, 4, 4, 6\)"),
        ("hidden_states", (2, 6, 4, 4, 5), r"latents of shape \(2, 6, 4, 4, 5\), expected .* W of 2"),
        ("hidden_states", (2, 6, 1, 4, 6), "at least one video latent"),
        ("timestep", (3,), r"timesteps of shape \(3,\), expected \(2,\)"),
        ("encoder_hidden_states", (2, 3, 9), r"text of shape \(2, 3, 9\), expected \(2, 3, 8\)"),
        ("control_hidden_states", (2, 10, 3, 4, 6), r"control latents .* expected \(2, 10, 4, 4, 6\)"),
        ("skeleton_latents", (2, 6, 10, 4, 6), r"skeleton latents .*10.* expected \(2, 6, 9, 4, 6\) .*9 frames"),
        ("skeleton_latents", (2, 6, 5, 4, 6), r"skeleton latents .*5.* expected \(2, 6, 9, 4, 6\)"),
        ("audio_embeds", (2, 5, 3, 2, 5), r"audio features .* expected \(2, 9, 3, 2, 5\)"),
        ("audio_embeds", (2, 9, 3, 2, 4), r"audio features .* expected \(2, 9, 3, 2, 5\)"),
    ],
)
def test_wrong_shapes_are_named_with_what_was_expected(model, inputs, name, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        model(**inputs | {name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"vace_layers": (1,)}, "start with 0"),
        ({"vace_layers": (0, 5)}, "stay below the 2 layers"),
        ({"patch_size": (2, 2, 2)}, "patch of 2 latent frames, expected 1"),
        ({"attention_head_dim": 11}, "even number"),
        ({"attention_head_dim": 12, "temporal_factor": 5}, "multiple of the temporal factor 5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, sentence):
    with pytest.raises(ValueError, match=sentence):
        PortraitWanTransformer3DModel(**SIZES | sizes)
