"""The TMM UNet: AnimateDiff's UNet with the skeleton at each resolution and the speech by cross attention.

The UNet itself is diffusers' `UNetMotionModel`, untouched, so AnimateDiff's weights fit into `unet`. The
skeleton is added where ControlNet adds its features: to every skip connection and to the middle.

Source: Hallo4, arXiv 2505.23525, section 3.2; AnimateDiff, arXiv 2307.04725; ControlNet, arXiv 2302.05543.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_motion_model import UNetMotionModel, UNetMotionOutput
from diffusers.utils import scale_lora_layers, unscale_lora_layers
from torch import nn

from prefkit.backbones.shapes import check_shape
from prefkit.backbones.tmm import AudioProjection, SkeletonPyramid


class PortraitUNetModel(  # type: ignore[misc]  # two of diffusers' bases type config_name differently
    ModelMixin, ConfigMixin, PeftAdapterMixin, AttentionMixin
):
    """Denoises a portrait clip that follows a skeleton and speech. Defaults are AnimateDiff's sizes.

    The clean reference latent is laid beside every noisy latent, as further input channels. With an image
    autoencoder `temporal_factor` is 1 and every frame has a latent of its own; with a video autoencoder it is
    the autoencoder's.
    """

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns: Any = ["norm", "skeleton", "audio_proj"]
    _no_split_modules: Any = ["BasicTransformerBlock", "ResnetBlock2D"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        reference_channels: int = 4,
        skeleton_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        attention_levels: tuple[bool, ...] = (True, True, True, False),
        num_attention_heads: int = 8,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 768,
        text_dim: int = 768,
        motion_max_seq_length: int = 32,
        audio_window: int = 5,
        audio_blocks: int = 12,
        audio_channels: int = 768,
        audio_hidden_dim: int = 512,
        audio_context_tokens: int = 32,
        temporal_factor: int = 1,
    ) -> None:
        """Builds the model; the joins of the skeleton start at zero, so it starts as a UNet without one.

        Args:
            in_channels: channels of the noisy latents and of the prediction.
            reference_channels: channels of the reference latent.
            skeleton_channels: channels of a skeleton frame's latents.
            block_out_channels: width at each resolution; each further one has half the height and width.
            layers_per_block: residual blocks at each resolution.
            attention_levels: at which resolutions frames attend to themselves, to text and to speech.
            num_attention_heads: heads of every attention.
            norm_num_groups: groups of the group norms; divides every width.
            cross_attention_dim: channels of text and speech tokens.
            text_dim: channels of the text embeddings; their number is free.
            motion_max_seq_length: longest clip in latent frames.
            audio_window: speech feature frames per video frame.
            audio_blocks: speech encoder layers per feature frame.
            audio_channels: channels of each.
            audio_hidden_dim: width of the audio projection.
            audio_context_tokens: tokens per video frame.
            temporal_factor: video frames per latent frame.

        Raises:
            ValueError: sizes that do not fit each other.
        """
        super().__init__()
        if len(attention_levels) != len(block_out_channels):
            raise ValueError(
                f"Found {len(attention_levels)} attention levels, expected one for each of "
                f"{len(block_out_channels)} widths."
            )
        kinds = ["CrossAttn" if attends else "" for attends in attention_levels]
        self.unet = UNetMotionModel(
            in_channels=in_channels + reference_channels,
            out_channels=in_channels,
            down_block_types=tuple(f"{kind}DownBlockMotion" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlockMotion" for kind in reversed(kinds)),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim,
            num_attention_heads=num_attention_heads,
            motion_max_seq_length=motion_max_seq_length,
            motion_num_attention_heads=num_attention_heads,
        )
        self.text_proj = nn.Linear(text_dim, cross_attention_dim)
        self.audio_proj = AudioProjection(
            audio_window,
            audio_blocks,
            audio_channels,
            audio_hidden_dim,
            audio_context_tokens,
            cross_attention_dim,
            temporal_factor,
        )
        self.skeleton_pyramid = SkeletonPyramid(skeleton_channels, block_out_channels, temporal_factor)
        self.skip_levels, skip_widths = _skips(block_out_channels, layers_per_block)
        self.skeleton_skips = nn.ModuleList(
            _zero_convolution(self.skeleton_pyramid.widths[level], width)
            for level, width in zip(self.skip_levels, skip_widths, strict=True)
        )
        self.skeleton_middle = _zero_convolution(self.skeleton_pyramid.widths[-1], block_out_channels[-1])

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        reference_latents: torch.Tensor,
        skeleton_latents: torch.Tensor,
        audio_embeds: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> UNetMotionOutput | tuple[torch.Tensor]:
        """The prediction (noise or velocity, as it was trained) at `timestep`.

        Args:
            hidden_states: noisy latents [B, in_channels, k + 1, H, W].
            timestep: [B], 0 to 1000.
            reference_latents: the portrait's [B, reference_channels, 1, H, W].
            skeleton_latents: [B, skeleton_channels, temporal_factor*k + 1, H, W], every frame encoded alone.
            audio_embeds: [B, temporal_factor*k + 1, audio_window, audio_blocks, audio_channels].
            encoder_hidden_states: text [B, L, text_dim], or None.
            attention_kwargs: `scale` of loaded LoRA weights.
            return_dict: an object with `.sample`, or a tuple.

        Returns:
            [B, in_channels, k + 1, H, W].

        Raises:
            ValueError: shapes that do not fit each other or the configuration.
        """
        self._check_inputs(
            hidden_states, timestep, reference_latents, skeleton_latents, audio_embeds, encoder_hidden_states
        )
        lora_scale = (attention_kwargs or {}).get("scale", 1.0)
        scale_lora_layers(self, lora_scale)
        try:
            sample = self._predict(
                hidden_states, timestep, reference_latents, skeleton_latents, audio_embeds, encoder_hidden_states
            )
        finally:
            unscale_lora_layers(self, lora_scale)
        return UNetMotionOutput(sample=sample) if return_dict else (sample,)

    def _predict(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        reference: torch.Tensor,
        skeleton_latents: torch.Tensor,
        audio_embeds: torch.Tensor,
        text: torch.Tensor | None,
    ) -> torch.Tensor:
        frames = latents.shape[2]
        context = self.audio_proj(audio_embeds).flatten(0, 1)
        if text is not None:
            context = torch.cat([self.text_proj(text).repeat_interleave(frames, dim=0), context], dim=1)
        pyramid = [features.flatten(0, 1) for features in self.skeleton_pyramid(skeleton_latents)]
        skips = [join(pyramid[level]) for level, join in zip(self.skip_levels, self.skeleton_skips, strict=True)]
        (prediction,) = self.unet(
            torch.cat([latents, reference.expand(-1, -1, frames, -1, -1)], dim=1),
            timestep,
            context,
            down_block_additional_residuals=tuple(skips),
            mid_block_additional_residual=self.skeleton_middle(pyramid[-1]),
            return_dict=False,
        )
        return prediction

    def _check_inputs(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        reference: torch.Tensor,
        skeleton: torch.Tensor,
        audio: torch.Tensor,
        text: torch.Tensor | None,
    ) -> None:
        config: Any = self.config
        if latents.ndim != 5 or not 1 <= latents.shape[2] <= config.motion_max_seq_length:
            raise ValueError(
                f"Found latents of shape {tuple(latents.shape)}, expected [B, {config.in_channels}, F, H, W] "
                f"with F from 1 to {config.motion_max_seq_length}."
            )
        batch, _, frames, height, width = latents.shape
        video_frames = config.temporal_factor * (frames - 1) + 1
        why = f"for latents {tuple(latents.shape)} ({video_frames} frames)"
        check_shape("latents", latents, (batch, config.in_channels, frames, height, width), "by the configuration")
        check_shape("timesteps", timestep, (batch,), why)
        check_shape("reference latents", reference, (batch, config.reference_channels, 1, height, width), why)
        check_shape("skeleton latents", skeleton, (batch, config.skeleton_channels, video_frames, height, width), why)
        features = (config.audio_window, config.audio_blocks, config.audio_channels)
        check_shape("audio features", audio, (batch, video_frames, *features), why)
        if text is not None:
            check_shape("text", text, (batch, text.shape[1] if text.ndim == 3 else "L", config.text_dim), why)


def _skips(widths: Sequence[int], layers: int) -> tuple[list[int], list[int]]:
    """Resolution level and width of each skip connection: the input's, and each level's layers and downsampler."""
    levels, channels = [0], [widths[0]]
    for level, width in enumerate(widths):
        levels += [level] * layers
        channels += [width] * layers
        if level + 1 < len(widths):
            levels.append(level + 1)
            channels.append(width)
    return levels, channels


def _zero_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=1)
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution
