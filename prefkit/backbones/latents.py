"""Pixels to latents and back, for the autoencoders that backbones have.

Latents are what the denoiser sees: shifted and scaled as the autoencoder's configuration says. Encoding takes
the mode of the distribution, so that the same pixels give the same latents.
"""

from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKLWan

from prefkit.backbones.autoencoder import PatchAutoencoder

# AutoencoderKLWan, AutoencoderKL or PatchAutoencoder; diffusers' classes are not typed
Autoencoder: TypeAlias = Any

FRAMES_AT_A_TIME = 8  # of those encoded alone: a batch of 480 × 832 images that a small GPU holds


def spatial_factor(vae: Autoencoder) -> int:
    """Pixels of a latent's side."""
    if isinstance(vae, PatchAutoencoder):
        return vae.config.patch_size
    if isinstance(vae, AutoencoderKLWan):
        return int(vae.config.scale_factor_spatial)
    return 2 ** (len(vae.config.block_out_channels) - 1)


def temporal_factor(vae: Autoencoder) -> int:
    """Video frames of a latent frame, r; 1 for an autoencoder of images."""
    if isinstance(vae, PatchAutoencoder):
        return vae.config.temporal_factor
    return int(vae.config.scale_factor_temporal) if isinstance(vae, AutoencoderKLWan) else 1


def device_of(module: Any) -> torch.device:
    """Where a module computes: where it lies, or where CPU offload will move it to."""
    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return module.device if device is None else torch.device(device)


def encode_pixels(vae: Autoencoder, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [B, 3, r*k + 1, H, W] in −1…1 -> float32 latents [B, C, k + 1, h, w] where the autoencoder computes."""
    device = device_of(vae)
    pixels = pixels.to(device, vae.dtype)
    if isinstance(vae, PatchAutoencoder):
        return vae.encode(pixels).float()
    if isinstance(vae, AutoencoderKLWan):
        mean, deviation = _statistics(vae, device)
        return (vae.encode(pixels).latent_dist.mode().float() - mean) / deviation
    images = pixels.transpose(1, 2).flatten(0, 1)
    parts = [vae.encode(part).latent_dist.mode().float() for part in images.split(FRAMES_AT_A_TIME)]
    latents = (torch.cat(parts) - _shift(vae)) * vae.config.scaling_factor
    return latents.unflatten(0, (len(pixels), -1)).transpose(1, 2)


def encode_frames_alone(vae: Autoencoder, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [3, T, H, W] -> float32 latents [C, T, h, w]: every frame as a clip of its own."""
    frames = pixels.transpose(0, 1).unsqueeze(2)
    parts = [encode_pixels(vae, part) for part in frames.split(FRAMES_AT_A_TIME)]
    return torch.cat(parts)[:, :, 0].transpose(0, 1).contiguous()


def decode_latents(vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """Latents [B, C, k + 1, h, w] -> float32 pixels [B, 3, r*k + 1, H, W] in −1…1 where the autoencoder computes."""
    device = device_of(vae)
    latents = latents.to(device).float()
    if isinstance(vae, PatchAutoencoder):
        return vae.decode(latents.to(vae.dtype)).sample.float()
    if isinstance(vae, AutoencoderKLWan):
        mean, deviation = _statistics(vae, device)
        return vae.decode((latents * deviation + mean).to(vae.dtype)).sample.float().clamp(-1, 1)
    images = (latents / vae.config.scaling_factor + _shift(vae)).to(vae.dtype).transpose(1, 2).flatten(0, 1)
    parts = [vae.decode(part).sample.float().clamp(-1, 1) for part in images.split(FRAMES_AT_A_TIME)]
    return torch.cat(parts).unflatten(0, (len(latents), -1)).transpose(1, 2)


def _statistics(vae: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    mean, deviation = (
        torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, deviation


def _shift(vae: Any) -> float:
    return vae.config.get("shift_factor") or 0.0
