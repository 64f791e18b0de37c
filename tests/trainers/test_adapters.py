from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig

from prefkit.backbones.adapters import (
    attach_adapter,
    load_adapter,
    merge_adapter,
    remove_adapter,
    restore_adapter,
    save_adapter,
)
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.errors import PrefkitError
from trainers.config import LORA_TARGET_MODULES


def portrait_transformer() -> Any:
    torch.manual_seed(0)
    model = PortraitWanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, vace_layers=(0,), ffn_dim=48, freq_dim=16,
        in_channels=4, out_channels=4, vace_in_channels=4, skeleton_channels=4, text_dim=8, rope_max_seq_len=16,
        audio_window=5, audio_blocks=1, audio_channels=8, audio_hidden_dim=16, audio_context_tokens=2,
    )  # fmt: skip
    return SimpleNamespace(name="portrait", weights_hash="0", model=model)


def test_the_default_targets_reach_every_attention_and_feed_forward() -> None:
    backbone = portrait_transformer()
    linear = {name for name, module in backbone.model.named_modules() if isinstance(module, torch.nn.Linear)}
    attach_adapter(backbone, LoraConfig(r=2, target_modules=list(LORA_TARGET_MODULES)))
    adapted = {name for name, module in backbone.model.named_modules() if hasattr(module, "lora_A")}
    for part in ("attn1", "attn2", "audio_attn", "condition_attn"):
        assert {f"blocks.1.{part}.{layer}" for layer in ("to_q", "to_k", "to_v", "to_out.0")} <= adapted
    assert {"blocks.0.ffn.net.0.proj", "blocks.0.ffn.net.2", "vace_blocks.0.attn1.to_q"} <= adapted
    left = {name for name in linear - adapted if name.startswith("blocks.")}
    assert left == set()


def test_an_adapter_survives_being_saved_taken_off_and_put_back(tmp_path: Any) -> None:
    backbone = portrait_transformer()
    attach_adapter(backbone, LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    digest = save_adapter(backbone, tmp_path)
    remove_adapter(backbone)
    assert load_adapter(backbone, tmp_path) == digest
    after = backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_folder_without_an_adapter_is_a_sentence(tmp_path: Any) -> None:
    with pytest.raises(PrefkitError, match="holds no adapter"):
        load_adapter(portrait_transformer(), tmp_path)
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"broken")
    with pytest.raises(PrefkitError, match="cannot be read"):
        load_adapter(portrait_transformer(), tmp_path)


def test_merged_weights_compute_what_the_adapter_did() -> None:
    backbone = portrait_transformer()
    plain = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    attach_adapter(backbone, LoraConfig(r=2, lora_alpha=8, target_modules=["to_q"], init_lora_weights=False))
    layer = backbone.model.blocks[0].attn1.to_q
    vector = torch.randn(3, layer.in_features)
    expected = layer(vector)
    merge_adapter(backbone)
    assert plain.keys() == backbone.model.state_dict().keys()
    torch.testing.assert_close(backbone.model.blocks[0].attn1.to_q(vector), expected, rtol=0, atol=1e-5)


def test_a_checkpoint_of_another_backbone_or_rank_is_a_sentence(tmp_path: Any) -> None:
    backbone = portrait_transformer()
    attach_adapter(backbone, LoraConfig(r=2, target_modules=["to_q"]))
    save_adapter(backbone, tmp_path)
    attach_adapter(backbone, LoraConfig(r=4, target_modules=["to_q"]))
    with pytest.raises(PrefkitError, match="does not fit portrait as it is trained now"):
        restore_adapter(backbone, tmp_path)
    backbone.weights_hash = "1"
    with pytest.raises(PrefkitError, match="was made for portrait 0, not for portrait 1"):
        restore_adapter(backbone, tmp_path)
