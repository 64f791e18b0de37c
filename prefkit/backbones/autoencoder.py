"""A linear space-time patch autoencoder: principal components behind a diffusers autoencoder's interface.

The tiny model's stand-in for a video VAE with the same frame arithmetic: the first frame is repeated
to fill a whole group, then every `temporal_factor` frames become one latent frame, so 4k + 1 frames
give k + 1 latents and a single image gives one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin

from prefkit.errors import PrefkitError


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Encodes pixels [B, 3, 4k+1, H, W] in −1…1 to latents [B, C, k+1, H/8, W/8] and back.

    Latents are principal components of the patches, scaled so that their mean square is about 1; the
    leading components keep somewhat more variance than the last (`balance` < 1).
    """

    @register_to_config
    def __init__(self, latent_channels: int = 64, patch_size: int = 8, temporal_factor: int = 4):
        super().__init__()
        width = 3 * temporal_factor * patch_size**2
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.zeros(latent_channels, width))
        self.register_buffer("scale", torch.ones(latent_channels))

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, T, H, W] in −1…1 -> latents [B, C, (T − 1) / 4 + 1, H / 8, W / 8].

        Raises:
            PrefkitError: T is not 4k + 1, or H or W no multiple of the patch size.
        """
        patches = self._to_patches(pixels)
        latents = (patches - self.mean) @ self.components.T / self.scale
        return latents.permute(0, 4, 1, 2, 3).contiguous()

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Latents [B, C, k+1, h, w] -> pixels [B, 3, 4k+1, 8h, 8w], clamped to −1…1, as `.sample`."""
        patches = (latents.permute(0, 2, 3, 4, 1) * self.scale) @ self.components + self.mean
        batch, groups, high, wide, _ = patches.shape
        r, p = self.config.temporal_factor, self.config.patch_size
        patches = patches.reshape(batch, groups, high, wide, 3, r, p, p)
        pixels = patches.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(batch, 3, groups * r, high * p, wide * p)
        return DecoderOutput(sample=pixels[:, :, r - 1 :].clamp(-1, 1))

    @torch.no_grad()
    def fit(self, clips: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], balance: float = 0.5) -> None:
        """Fits mean, components and scale.

        Args:
            clips: what to describe, pixels [B, 3, T, H, W] each; images have T = 1.
            weights: how much each patch counts, [B, (T − 1) / 4 + 1, H / 8, W / 8] each.
            balance: 1 gives every component unit variance, 0 leaves their natural proportions.
        """
        patches = torch.cat([self._to_patches(pixels).flatten(0, -2) for pixels in clips]).double()
        weight = torch.cat([given.flatten() for given in weights]).double()[:, None]
        mean = (weight * patches).sum(dim=0) / weight.sum()
        centred = patches - mean
        covariance = (weight * centred).T @ centred / weight.sum()
        variance, vectors = torch.linalg.eigh(covariance)
        leading = torch.arange(1, self.config.latent_channels + 1)
        deviation = variance[-leading].clamp(min=1e-12).sqrt()
        components = vectors[:, -leading].T
        # eigenvectors have no sign of their own; a fixed one makes the fit reproducible
        components = components * components.gather(1, components.abs().argmax(1, keepdim=True)).sign()
        scale = deviation**balance
        scale = scale * ((deviation / scale) ** 2).mean().sqrt()
        self.mean.copy_(mean)
        self.components.copy_(components)
        self.scale.copy_(scale)

    def _to_patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, T, H, W] -> [B, groups, H/p, W/p, 3·r·p·p]."""
        r, p = self.config.temporal_factor, self.config.patch_size
        batch, _, frames, height, width = pixels.shape
        if (frames - 1) % r or height % p or width % p:
            raise PrefkitError(
                f"the clip has {frames} frames of {width}×{height}; "
                f"expected {r}k + 1 frames and sides that are multiples of {p}"
            )
        padded = torch.cat([pixels[:, :, :1].expand(-1, -1, r - 1, -1, -1), pixels], dim=2)
        groups = padded.reshape(batch, 3, -1, r, height // p, p, width // p, p)
        return groups.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """uint8 [..., T, H, W, 3] -> float32 [..., 3, T, H, W] in −1…1."""
    return torch.tensor(np.ascontiguousarray(frames)).movedim(-1, -4).float() / 127.5 - 1


def to_frames(pixels: torch.Tensor) -> np.ndarray:
    """Float [..., 3, T, H, W] in −1…1 -> uint8 [..., T, H, W, 3]."""
    return ((pixels.movedim(-4, -1).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
