"""What every backbone offers, our own or a third party's.

Sampling and the trainer know a backbone by these names alone. Latents are the video's own: a backbone
that puts a clean reference latent in front (as Hallo4 does) adds it inside `predict` and drops it from
what it returns, so it can take no part in a loss.
"""

import copy
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

Conditioning = dict[str, torch.Tensor]


class Backbone(Protocol):
    """A denoiser with its autoencoder and its condition encoders.

    Attributes:
        name: what rows call it, e.g. "tiny".
        fps: frame rate of its clips.
        frame_size: (height, width) of its clips in pixels.
        num_frames: the longest clip one forward takes, 4k + 1.
        weights_hash: content hash of all its weights, without adapters.
        prediction_type: "flow" (velocity, noise − latents), "epsilon" or "v_prediction".
        model: the denoiser; adapters attach to it and the trainer trains it. `predict` and `sample` use this
            attribute, so that a copy of the backbone with another model is another model's backbone.
    """

    name: str
    fps: float
    frame_size: tuple[int, int]
    num_frames: int
    weights_hash: str
    prediction_type: str
    model: torch.nn.Module

    def encode_condition(
        self, portrait: np.ndarray, audio: np.ndarray, skeleton: np.ndarray, text: str | None = None
    ) -> Conditioning:
        """Turns one condition into named tensors, without a batch dimension.

        Args:
            portrait: uint8 [H, W, 3] RGB.
            audio: int16 [N], mono, 16 kHz.
            skeleton: uint8 [T, H, W, 3] RGB, T = 4k + 1; the clip's shape at its own or a larger size.
            text: a prompt, or None.
        """
        ...

    def encode_clip(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [T, H, W, 3] RGB -> float32 latents [C, F, h, w]."""
        ...

    def decode_clip(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [C, F, h, w] -> uint8 [T, H, W, 3] RGB."""
        ...

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, F, h, w] at `timesteps` [B] in (0, 1000]."""
        ...

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What `predict` should return, [B, C, F, h, w]."""
        ...

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The model's prediction [B, C, F, h, w]; `conditioning` has a batch dimension here."""
        ...

    def sample(
        self, conditioning: Conditioning, seeds: Sequence[int], *, num_inference_steps: int | None = None
    ) -> torch.Tensor:
        """Latents [B, C, F, h, w], one per seed; a clip depends on its own seed and condition alone."""
        ...


def stack_conditioning(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Stacks conditions of equal shapes along a new first dimension."""
    return {name: torch.stack([conditioning[name] for conditioning in conditionings]) for name in conditionings[0]}


def with_own_model(backbone: Backbone) -> Backbone:
    """The same backbone with a denoiser of its own, a copy; autoencoder and encoders are shared."""
    other = copy.copy(backbone)
    other.model = copy.deepcopy(backbone.model)
    return other
