"""The blocks of the TMM transformer: Wan's, with attention to the audio and from the skeleton.

Names of parameters are diffusers'. Source: Hallo4, arXiv 2505.23525; VACE, arXiv 2503.07598.
"""

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanTransformerBlock
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformerBlock
from torch import nn


class PortraitAttnProcessor(WanAttnProcessor):
    """Wan's attention with the rotation as one complex product: a fifth of the time of slicing on a CPU."""

    def __call__(  # type: ignore[override]  # the rotation has another form
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attends from [B, N, D] to [B, M, D] (by default to itself).

        `rotary_emb` is the turn of each position, complex [N, 1, d/2] for heads of d channels.
        """
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(context)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(context).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            query, key = _rotate(query, rotary_emb), _rotate(key, rotary_emb)
        output = dispatch_attention_fn(query, key, value, attn_mask=attention_mask, backend=self._attention_backend)
        return attn.to_out[0](output.flatten(2, 3).type_as(query))


class PortraitWanTransformerBlock(WanTransformerBlock):
    """A Wan block with attention to the audio and, before the feed-forward, from the skeleton."""

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, eps: float) -> None:
        """Builds the block; the two new output projections start at zero, so it starts as a Wan block."""
        super().__init__(dim=dim, ffn_dim=ffn_dim, num_heads=num_heads, cross_attn_norm=True, eps=eps)
        self.audio_norm = FP32LayerNorm(dim, eps, elementwise_affine=True)
        self.audio_attn = _cross_attention(dim, num_heads, eps)
        self.condition_norm = FP32LayerNorm(dim, eps, elementwise_affine=True)
        self.condition_attn = _cross_attention(dim, num_heads, eps)
        _use_portrait_attention(self)

    def forward(  # type: ignore[override]  # a block of another signature, called here alone
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: torch.Tensor,
        skeleton_tokens: torch.Tensor,
        audio_tokens: torch.Tensor,
    ) -> torch.Tensor:
        """One block.

        Args:
            hidden_states: [B, F*N, D], frame-major.
            encoder_hidden_states: text [B, L, D].
            temb: modulation from the timestep [B, 6, D].
            rotary_emb: turn of each position, complex [F*N, 1, d/2].
            skeleton_tokens: [B*F, N, D].
            audio_tokens: [B*F, M, D].

        Returns:
            [B, F*N, D].
        """
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.scale_shift_table + temb.float()).chunk(6, dim=1)

        # 1. Self-attention
        x = modulate(self.norm1, hidden_states, scale, shift)
        hidden_states = _add_gated(hidden_states, self.attn1(x, None, None, rotary_emb), gate)

        # 2. Text
        hidden_states = _attend_to_text(self, hidden_states, encoder_hidden_states)

        # 3. Audio: each latent frame attends to its own sound
        frames = self.audio_norm(hidden_states).view(skeleton_tokens.shape)
        hidden_states = hidden_states + self.audio_attn(frames, audio_tokens).view(hidden_states.shape)

        # 4. Skeleton: the skeleton asks and the video answers, so the output lies where the skeleton is.
        # It reaches the video through the feed-forward's input only.
        x = modulate(self.norm3, hidden_states, ffn_scale, ffn_shift)
        frames = self.condition_norm(x).view(skeleton_tokens.shape)
        x = x + self.condition_attn(skeleton_tokens, frames).view(x.shape)

        # 5. Feed-forward
        return _add_gated(hidden_states, self.ffn(x), ffn_gate)


class PortraitWanVACETransformerBlock(WanVACETransformerBlock):
    """Diffusers' block of the control branch, with fewer passes over memory."""

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, eps: float, *, is_first: bool) -> None:
        """Builds the block; only the first takes the video's tokens in."""
        super().__init__(
            dim=dim,
            ffn_dim=ffn_dim,
            num_heads=num_heads,
            cross_attn_norm=True,
            eps=eps,
            apply_input_projection=is_first,
            apply_output_projection=True,
        )
        _use_portrait_attention(self)

    def forward(  # type: ignore[override]  # a block of another signature, called here alone
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        control_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The hint for the main block and the control branch's new state, both [B, F*N, D]."""
        x = control_hidden_states
        if self.proj_in is not None:
            x = self.proj_in(x) + hidden_states
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.scale_shift_table + temb.float()).chunk(6, dim=1)
        x = _add_gated(x, self.attn1(modulate(self.norm1, x, scale, shift), None, None, rotary_emb), gate)
        x = _attend_to_text(self, x, encoder_hidden_states)
        x = _add_gated(x, self.ffn(modulate(self.norm3, x, ffn_scale, ffn_shift)), ffn_gate)
        return self.proj_out(x), x  # type: ignore[misc]  # None in diffusers' blocks without a hint


def _cross_attention(dim: int, num_heads: int, eps: float) -> WanAttention:
    head_dim = dim // num_heads
    return WanAttention(
        dim=dim,
        heads=num_heads,
        dim_head=head_dim,
        eps=eps,
        cross_attention_dim_head=head_dim,
        processor=PortraitAttnProcessor(),
    )


def _use_portrait_attention(block: nn.Module) -> None:
    processor: Any = PortraitAttnProcessor()  # diffusers types processors as a closed union of its own
    for module in block.modules():
        if isinstance(module, WanAttention):
            module.set_processor(processor)


def _attend_to_text(block: Any, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    # A single text token answers every question alike, so asking once is enough.
    questions = x[:, :1] if text.shape[1] == 1 else x
    return x + block.attn2(block.norm2(questions), text)


def _rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * angles).flatten(-2).type_as(x)


def modulate(norm: nn.Module, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """norm(x) * (1 + scale) + shift in float32, in x's dtype."""
    return torch.addcmul(shift, norm(x.float()), 1 + scale).type_as(x)


def _add_gated(x: torch.Tensor, update: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(x.float(), update.float(), gate).type_as(x)
