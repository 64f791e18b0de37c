"""The patch autoencoder: frame arithmetic of a video VAE, and nothing lost that its components can hold."""

import numpy as np
import pytest
import torch

from prefkit.backbones.autoencoder import PatchAutoencoder, to_frames, to_pixels
from prefkit.errors import PrefkitError


def fitted(channels, pixels):
    autoencoder = PatchAutoencoder(latent_channels=channels, patch_size=2, temporal_factor=2)
    groups = (pixels.shape[2] - 1) // 2 + 1
    autoencoder.fit([pixels], [torch.ones(len(pixels), groups, pixels.shape[3] // 2, pixels.shape[4] // 2)])
    return autoencoder


def test_all_components_lose_nothing():
    pixels = torch.rand(6, 3, 5, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    autoencoder = fitted(3 * 2 * 2 * 2, pixels)
    latents = autoencoder.encode(pixels)
    assert latents.shape == (6, 24, 3, 4, 4)
    torch.testing.assert_close(autoencoder.decode(latents).sample, pixels, atol=1e-4, rtol=0)


def test_latents_have_unit_mean_square():
    pixels = torch.rand(8, 3, 5, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert abs(fitted(10, pixels).encode(pixels).square().mean() - 1) < 0.05


def test_a_frame_moves_only_its_own_latent():
    pixels = torch.rand(1, 3, 7, 4, 4, generator=torch.Generator().manual_seed(2))
    autoencoder = fitted(8, pixels)
    changed = pixels.clone()
    changed[:, :, 4] += 0.5  # of the frames 0 | 1 2 | 3 4 | 5 6
    moved = (autoencoder.encode(changed) - autoencoder.encode(pixels)).abs().amax(dim=(0, 1, 3, 4))
    assert moved[2] > 0.01 and moved[[0, 1, 3]].max() < 1e-5


def test_a_patch_that_counts_more_is_kept_better():
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(40, 3, 1, 4, 4, generator=generator) * 2 - 1

    def error(weight):
        autoencoder = PatchAutoencoder(latent_channels=2, patch_size=4, temporal_factor=1)
        weights = torch.ones(40, 1, 1, 1)
        weights[:3] = weight
        autoencoder.fit([pixels], [weights])
        return (autoencoder.decode(autoencoder.encode(pixels)).sample - pixels)[:3].square().mean()

    assert error(50.0) < 0.5 * error(1.0)


def test_frames_and_pixels_round_trip():
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(to_frames(to_pixels(frames)), frames)


def test_a_length_that_does_not_fit_is_named():
    with pytest.raises(PrefkitError, match="4 frames of 8×8; expected 4k"):
        PatchAutoencoder().encode(torch.zeros(1, 3, 4, 8, 8))
