import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from prefkit.backbones.hallo4 import convert_name, infer_config, load_hallo4_checkpoint
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.errors import PrefkitError

GOLDEN = Path(__file__).parents[2] / "golden"
OWN_NAMES = {
    "num_attention_heads": 2,
    "vace_layers": (0, 2),
    "audio_window": 5,
    "audio_blocks": 3,
    "audio_channels": 16,
}


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN / "hallo4_backbone.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["config"])


@pytest.fixture
def weights(golden):
    return {name.removeprefix("model."): tensor for name, tensor in golden[0].items() if name.startswith("model.")}


@pytest.fixture
def save(tmp_path):
    def save(weights, suffix=".safetensors", metadata=None):
        path = tmp_path / f"hallo4{suffix}"
        save_file(weights, path, metadata) if suffix == ".safetensors" else torch.save(weights, path)
        return path

    return save


def velocity(model, tensors):
    with torch.no_grad():
        return model(
            hidden_states=tensors["in.hidden_states"],
            timestep=tensors["in.timestep"],
            encoder_hidden_states=tensors["in.text"],
            control_hidden_states=tensors["in.vace_context"],
            skeleton_latents=tensors["in.skeleton_latents"],
            audio_embeds=tensors["in.audio_embeds"],
        ).sample


def test_velocity_and_tokens_are_hallo4s(golden, weights, save):
    tensors, config = golden
    model = load_hallo4_checkpoint(save(weights, metadata={"config": json.dumps(config)}))
    assert not model.training
    with torch.no_grad():
        pose, audio = model.skeleton_proj(tensors["in.skeleton_latents"]), model.audio_proj(tensors["in.audio_embeds"])
    assert (pose - tensors["out.pose_tokens"]).abs().max() < 1e-5
    assert (audio - tensors["out.audio_tokens"]).abs().max() < 1e-5
    assert (velocity(model, tensors) - tensors["out.velocity"]).abs().max() < 1e-4


@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"state_dict": _prefixed(weights)}])
def test_pickled_checkpoints_load_as_the_safetensors_do(golden, weights, save, suffix, wrap):
    tensors, _ = golden
    model = load_hallo4_checkpoint(save(wrap(weights), suffix), OWN_NAMES)
    assert (velocity(model, tensors) - tensors["out.velocity"]).abs().max() < 1e-4


def _prefixed(weights):
    return {f"model.{name}": tensor for name, tensor in weights.items()}


def test_a_loaded_model_saves_trains_and_loads_as_any_other(golden, weights, save, tmp_path):
    tensors, config = golden
    model = load_hallo4_checkpoint(save(weights), config)
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())
    model.save_pretrained(tmp_path / "model")
    again = PortraitWanTransformer3DModel.from_pretrained(tmp_path / "model")
    assert torch.equal(velocity(again, tensors), velocity(model, tensors))


def test_released_size_has_every_name_shape_and_parameter():
    published = json.loads((GOLDEN / "hallo4_fullsize_keys.json").read_text())
    shapes = {name: tuple(shape) for name, shape in published["shapes"].items()}
    with torch.device("meta"):
        model = PortraitWanTransformer3DModel(**infer_config(shapes, Path("hallo4.pth")))
        released = PortraitWanTransformer3DModel()
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours == {convert_name(name): shape for name, shape in shapes.items()}
    assert sum(parameter.numel() for parameter in model.parameters()) == published["parameters"]
    assert {name: tuple(tensor.shape) for name, tensor in released.state_dict().items()} == ours
    assert released.config.num_attention_heads == model.config.num_attention_heads == 12
    assert released.config.vace_layers == model.config.vace_layers
    assert released.config.audio_channels == model.config.audio_channels == 768


def test_missing_unexpected_and_misshapen_keys_are_listed_in_one_sentence(weights, save):
    del weights["blocks.1.audio_cross_attn.q.weight"]
    weights["blocks.1.img_emb.weight"] = torch.zeros(1)
    weights["blocks.2.norm3.bias"] = torch.zeros(7)
    with pytest.raises(PrefkitError) as error:
        load_hallo4_checkpoint(save(weights), OWN_NAMES)
    message = str(error.value)
    assert "1 missing: blocks.1.audio_attn.to_q.weight" in message
    assert "1 unexpected: blocks.1.img_emb.weight" in message
    assert "blocks.2.norm2.bias (7,) instead of (48,)" in message
    assert "\n" not in message


def test_a_checkpoint_of_something_else_is_refused(weights, save):
    for name in [name for name in weights if name.startswith(("pose_proj", "audio_proj"))]:
        del weights[name]
    with pytest.raises(PrefkitError, match="not pose_proj.proj.weight, audio_proj.proj1.weight"):
        load_hallo4_checkpoint(save(weights), OWN_NAMES)
    with pytest.raises(PrefkitError, match="other than named weights"):
        load_hallo4_checkpoint(save({"step": 3}, ".pth"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_refused(weights, save, suffix):
    path = save(weights, suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PrefkitError, match="cannot be read as a checkpoint, it may be truncated"):
        load_hallo4_checkpoint(path, OWN_NAMES)


def test_shards_load_as_one_file_and_a_missing_one_is_named(golden, weights, tmp_path):
    tensors, _ = golden
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, own in parts.items():
        save_file({name: weights[name] for name in own}, tmp_path / part)
    index = tmp_path / "hallo4.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: part for part, own in parts.items() for name in own}}))
    model = load_hallo4_checkpoint(index, OWN_NAMES)
    assert (velocity(model, tensors) - tensors["out.velocity"]).abs().max() < 1e-4
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "b.safetensors").read_bytes()[:999])
    with pytest.raises(PrefkitError, match="may be truncated"):
        load_hallo4_checkpoint(index, OWN_NAMES)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(PrefkitError, match=r"names b\.safetensors, which is not beside it: download all 2 shards"):
        load_hallo4_checkpoint(index, OWN_NAMES)
    index.write_text("{}")
    with pytest.raises(PrefkitError, match="no index of shards"):
        load_hallo4_checkpoint(index, OWN_NAMES)


def test_half_precision_keeps_what_wan_keeps_in_float32(golden, weights, save, tmp_path):
    tensors, _ = golden
    model = load_hallo4_checkpoint(save(weights), OWN_NAMES, torch_dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    loaded = PortraitWanTransformer3DModel.from_pretrained(tmp_path / "model", torch_dtype=torch.bfloat16)
    assert {name: p.dtype for name, p in loaded.named_parameters()} == {
        name: p.dtype for name, p in model.named_parameters()
    }
    kept = {
        name.rpartition(".")[0].rpartition(".")[2] for name, p in model.named_parameters() if p.dtype == torch.float32
    }
    assert {"norm2", "audio_norm", "condition_norm"} <= kept
    assert model.scale_shift_table.dtype == torch.float32 and model.dtype == torch.bfloat16
    low = velocity(model, {name: t.bfloat16() if "timestep" not in name else t for name, t in tensors.items()})
    assert low.dtype == torch.bfloat16
    assert (low - tensors["out.velocity"]).abs().mean() < 0.1 * tensors["out.velocity"].std()


def test_what_weights_cannot_tell_is_asked_for(weights, save):
    path = save(weights)
    with pytest.raises(
        PrefkitError, match="width of 48, which does not divide into heads of 128 channels: give config"
    ):
        load_hallo4_checkpoint(path)
    with pytest.raises(PrefkitError, match="does not divide into 5 heads"):
        load_hallo4_checkpoint(path, {"num_attention_heads": 5})
    with pytest.raises(PrefkitError, match="240 audio features a frame, which is not 5 frames of 3 layers of 15"):
        load_hallo4_checkpoint(path, OWN_NAMES | {"audio_channels": 15})
    with pytest.raises(PrefkitError, match="unknown setting 'num_attention_head' – did you mean 'num_attention_heads'"):
        load_hallo4_checkpoint(path, {"num_attention_head": 2})


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(PrefkitError, match="no file"):
        load_hallo4_checkpoint(tmp_path / "absent.pth")
    (tmp_path / "notes.txt").write_text("weights")
    with pytest.raises(PrefkitError, match=r"expected a \.safetensors, \.pth, \.pt or \.ckpt"):
        load_hallo4_checkpoint(tmp_path / "notes.txt")
