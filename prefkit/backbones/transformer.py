"""The TMM diffusion transformer: Wan2.1-VACE with skeleton and audio attention, as in Hallo4.

Module and parameter names are diffusers' `WanVACETransformer3DModel`'s; what TMM adds is `skeleton_proj`,
`audio_proj` and, in each block, `audio_norm`, `audio_attn`, `condition_norm`, `condition_attn`.

Source: Hallo4, arXiv 2505.23525; VACE, arXiv 2503.07598; Wan, arXiv 2503.20314.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTimeTextImageEmbedding
from diffusers.utils import scale_lora_layers, unscale_lora_layers
from torch import nn

from prefkit.backbones.blocks import PortraitWanTransformerBlock, PortraitWanVACETransformerBlock, modulate
from prefkit.backbones.shapes import check_shape
from prefkit.backbones.tmm import AudioProjection, SkeletonProjection, prepend_reference_frame


class PortraitWanTransformer3DModel(  # type: ignore[misc]  # two of diffusers' bases type config_name differently
    ModelMixin, ConfigMixin, PeftAdapterMixin, CacheMixin, AttentionMixin
):
    """Denoises a portrait clip that follows a skeleton and speech. Defaults are Hallo4's released size.

    Latents have one clean reference latent in front of the video's k + 1 (`hidden_states` [B, C, k + 2, H, W]);
    whoever samples or trains leaves it out of the noise and the loss.
    """

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns: Any = [
        "patch_embedding",
        "vace_patch_embedding",
        "condition_embedder",
        "skeleton_proj",
        "audio_proj",
        "norm",
    ]
    _no_split_modules: Any = ["PortraitWanTransformerBlock", "PortraitWanVACETransformerBlock"]
    _keep_in_fp32_modules: Any = [
        "rope",
        "time_embedder",
        "scale_shift_table",
        "norm1",
        "norm2",
        "norm3",
        "audio_norm",
        "condition_norm",
    ]
    _repeated_blocks: Any = ["PortraitWanTransformerBlock", "PortraitWanVACETransformerBlock"]

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 8960,
        num_layers: int = 30,
        eps: float = 1e-6,
        rope_max_seq_len: int = 1024,
        vace_layers: tuple[int, ...] = tuple(range(0, 30, 2)),
        vace_in_channels: int = 96,
        skeleton_channels: int = 16,
        audio_window: int = 5,
        audio_blocks: int = 12,
        audio_channels: int = 768,
        audio_hidden_dim: int = 512,
        audio_context_tokens: int = 32,
        temporal_factor: int = 4,
    ) -> None:
        """Builds the model with Wan's initialisation.

        Args:
            patch_size: (frames, height, width) of a token in latents; one frame only.
            num_attention_heads: heads of every attention.
            attention_head_dim: even, channels of a head; their product is the model's width.
            in_channels: channels of the latents.
            out_channels: channels of the velocity.
            text_dim: channels of the text embeddings; their number is free.
            freq_dim: channels of the sinusoidal timestep.
            ffn_dim: inner width of the feed-forward.
            num_layers: main blocks.
            eps: of the norms in the blocks.
            rope_max_seq_len: longest frame, row or column count in tokens.
            vace_layers: main blocks that take a hint of the control branch; the first is 0.
            vace_in_channels: channels of the control latents.
            skeleton_channels: channels of a skeleton frame's latents.
            audio_window: speech feature frames per video frame.
            audio_blocks: speech encoder layers per feature frame.
            audio_channels: channels of each.
            audio_hidden_dim: width of the audio projection.
            audio_context_tokens: tokens per video frame.
            temporal_factor: video frames per latent frame; the width is a multiple of it.

        Raises:
            ValueError: sizes that do not fit each other.
        """
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        _check_sizes(patch_size, attention_head_dim, num_layers, vace_layers)

        _, patch_height, patch_width = patch_size
        self.rope = WanRotaryPosEmbed(attention_head_dim, (1, patch_height, patch_width), rope_max_seq_len)
        self.patch_embedding = nn.Conv3d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.vace_patch_embedding = nn.Conv3d(vace_in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.condition_embedder = WanTimeTextImageEmbedding(
            dim=dim, time_freq_dim=freq_dim, time_proj_dim=dim * 6, text_embed_dim=text_dim
        )
        self.skeleton_proj = SkeletonProjection(skeleton_channels, dim, temporal_factor, (patch_height, patch_width))
        self.audio_proj = AudioProjection(
            audio_window, audio_blocks, audio_channels, audio_hidden_dim, audio_context_tokens, dim, temporal_factor
        )
        self.blocks = nn.ModuleList(
            PortraitWanTransformerBlock(dim, ffn_dim, num_attention_heads, eps) for _ in range(num_layers)
        )
        self.vace_blocks = nn.ModuleList(
            PortraitWanVACETransformerBlock(dim, ffn_dim, num_attention_heads, eps, is_first=i == 0)
            for i in range(len(vace_layers))
        )
        self.norm_out = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.gradient_checkpointing = False
        self._initialise()

    def _initialise(self) -> None:
        """Wan's initialisation: Xavier, small embeddings, and zero where a branch joins or the model ends."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for convolution in (self.patch_embedding, self.vace_patch_embedding):
            nn.init.xavier_uniform_(convolution.weight.flatten(1))
        embedder = self.condition_embedder
        for part in (embedder.text_embedder, embedder.time_embedder):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
        blocks: Any = self.blocks
        joins: list[Any] = [block.proj_out for block in self.vace_blocks]
        joins += [attention.to_out[0] for block in blocks for attention in (block.audio_attn, block.condition_attn)]
        for module in (*joins, self.proj_out):
            nn.init.zeros_(module.weight)

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        control_hidden_states: torch.Tensor,
        skeleton_latents: torch.Tensor,
        audio_embeds: torch.Tensor,
        control_hidden_states_scale: torch.Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        """The velocity (noise minus latents) at `timestep`.

        Args:
            hidden_states: [B, C, k + 2, H, W]: the clean reference latent, then noisy video latents.
            timestep: [B], 0 to 1000.
            encoder_hidden_states: text [B, L, text_dim], padded with zeros; there is no mask.
            control_hidden_states: VACE context [B, vace_in_channels, k + 2, H, W].
            skeleton_latents: [B, skeleton_channels, temporal_factor*k + 1, H, W], every frame encoded alone.
            audio_embeds: [B, temporal_factor*k + 1, audio_window, audio_blocks, audio_channels].
            control_hidden_states_scale: [number of VACE layers], 1 by default.
            attention_kwargs: `scale` of loaded LoRA weights.
            return_dict: an object with `.sample`, or a tuple.

        Returns:
            [B, out_channels, k + 2, H, W].

        Raises:
            ValueError: shapes that do not fit each other or the configuration.
        """
        inputs = (hidden_states, timestep, encoder_hidden_states, control_hidden_states, skeleton_latents, audio_embeds)
        self._check_inputs(*inputs)
        lora_scale = (attention_kwargs or {}).get("scale", 1.0)
        scale_lora_layers(self, lora_scale)
        try:
            sample = self._velocity(*inputs, control_hidden_states_scale)
        finally:
            unscale_lora_layers(self, lora_scale)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def _velocity(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        control: torch.Tensor,
        skeleton_latents: torch.Tensor,
        audio_embeds: torch.Tensor,
        control_scale: torch.Tensor | None,
    ) -> torch.Tensor:
        scales = self._hint_scales(control, control_scale)
        cosines, sines = self.rope(latents)  # every number twice, for the two channels that turn together
        rotary_emb = torch.complex(cosines[0, :, :, ::2].float(), sines[0, :, :, ::2].float())
        skeleton_tokens = prepend_reference_frame(self.skeleton_proj(skeleton_latents)).flatten(0, 1)
        audio_tokens = prepend_reference_frame(self.audio_proj(audio_embeds)).flatten(0, 1)
        temb, modulation, text, _ = self.condition_embedder(timestep, text)
        modulation = modulation.unflatten(1, (6, -1))

        x = self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
        control = self.vace_patch_embedding(control).flatten(2).transpose(1, 2)
        hints = {}
        for layer, block, scale in zip(self.config["vace_layers"], self.vace_blocks, scales, strict=True):
            hint, control = self._run(block, x, text, control, modulation, rotary_emb)
            hints[layer] = hint * scale
        for layer, block in enumerate(self.blocks):
            x = self._run(block, x, text, modulation, rotary_emb, skeleton_tokens, audio_tokens)
            if layer in hints:
                x = x + hints.pop(layer)

        shift, scale = (self.scale_shift_table.float() + temb.unsqueeze(1).float()).chunk(2, dim=1)
        patches = self.proj_out(modulate(self.norm_out, x, scale, shift))
        return _unpatchify(patches, latents.shape[2:], self.config["patch_size"])

    def _run(self, block: nn.Module, *inputs: Any) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            checkpoint: Any = self._gradient_checkpointing_func
            return checkpoint(block, *inputs)  # takes positional arguments only
        return block(*inputs)

    def _hint_scales(self, control: torch.Tensor, scale: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        wanted = len(self.config["vace_layers"])
        if scale is None:
            return control.new_ones(wanted).unbind()
        if len(scale) != wanted:
            raise ValueError(f"Found {len(scale)} control scales, expected one for each of {wanted} VACE layers.")
        return scale.unbind()

    def _check_inputs(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        control: torch.Tensor,
        skeleton: torch.Tensor,
        audio: torch.Tensor,
    ) -> None:
        config = self.config
        _, p_h, p_w = config["patch_size"]
        if latents.ndim != 5 or latents.shape[2] < 2 or latents.shape[3] % p_h or latents.shape[4] % p_w:
            raise ValueError(
                f"Found latents of shape {tuple(latents.shape)}, expected [B, {config['in_channels']}, F, H, W] with a "
                f"reference and at least one video latent (F ≥ 2), H a multiple of {p_h} and W of {p_w}."
            )
        batch, _, frames, height, width = latents.shape
        video_frames = config["temporal_factor"] * (frames - 2) + 1
        text_length = text.shape[1] if text.ndim == 3 else "L"
        why = f"for latents {tuple(latents.shape)} (1 reference and {frames - 1} video latents: {video_frames} frames)"
        check_shape("latents", latents, (batch, config["in_channels"], frames, height, width), "by the configuration")
        check_shape("timesteps", timestep, (batch,), why)
        check_shape("text", text, (batch, text_length, config["text_dim"]), why)
        check_shape("control latents", control, (batch, config["vace_in_channels"], frames, height, width), why)
        check_shape(
            "skeleton latents", skeleton, (batch, config["skeleton_channels"], video_frames, height, width), why
        )
        features = (config["audio_window"], config["audio_blocks"], config["audio_channels"])
        check_shape("audio features", audio, (batch, video_frames, *features), why)


def _unpatchify(patches: torch.Tensor, size: Sequence[int], patch_size: tuple[int, int, int]) -> torch.Tensor:
    """[B, F*N, p_t*p_h*p_w*C] -> [B, C, F, H, W]."""
    (frames, height, width), (p_t, p_h, p_w) = size, patch_size
    x = patches.view(patches.shape[0], frames // p_t, height // p_h, width // p_w, p_t, p_h, p_w, -1)
    return x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(patches.shape[0], -1, frames, height, width)


def _check_sizes(
    patch_size: tuple[int, int, int], attention_head_dim: int, num_layers: int, vace_layers: tuple[int, ...]
) -> None:
    if patch_size[0] != 1:
        raise ValueError(
            f"Found a patch of {patch_size[0]} latent frames, expected 1: "
            "skeleton and audio belong to one latent frame each."
        )
    if attention_head_dim % 2:
        raise ValueError(f"Found heads of {attention_head_dim} channels, expected an even number to rotate.")
    if not vace_layers or vace_layers[0] != 0 or max(vace_layers) >= num_layers:
        raise ValueError(
            f"Found VACE layers {tuple(vace_layers)}, expected them to start with 0 "
            f"and stay below the {num_layers} layers."
        )
