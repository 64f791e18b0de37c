"""Temporal motion modulation (TMM): motion at the video's frame rate, folded to the latents' rate.

A video autoencoder with temporal factor r turns r*k + 1 frames into k + 1 latent frames: the first frame alone,
then r frames each. TMM keeps every frame of the skeleton and of the audio and folds r of them into the latent
frame they belong to, so that fast motion is not lost to subsampling.

Source: Hallo4, arXiv 2505.23525, section 3.2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def num_latent_frames(num_frames: int, factor: int) -> int:
    """Latent frames k + 1 of a clip of `num_frames` = factor*k + 1 frames.

    Raises:
        ValueError: `num_frames` is not of that form.
    """
    if num_frames < 1 or (num_frames - 1) % factor:
        raise ValueError(
            f"Found {num_frames} frames, expected {factor}k + 1 of them (1, {factor + 1}, "
            f"{2 * factor + 1}, …): cut the clip to the nearest such length."
        )
    return (num_frames - 1) // factor + 1


def fold_frames(frames: torch.Tensor, factor: int) -> torch.Tensor:
    """Groups frames by the latent frame they belong to.

    The first frame is repeated `factor` - 1 times in front, as the autoencoder has it alone in a latent frame.

    Args:
        frames: [B, factor*k + 1, ...].
        factor: temporal factor r of the autoencoder.

    Returns:
        [B, k + 1, factor, ...]; dropping the repeats gives `frames` back.

    Raises:
        ValueError: the number of frames is not factor*k + 1.
    """
    groups = num_latent_frames(frames.shape[1], factor)
    first = frames[:, :1].expand(-1, factor - 1, *frames.shape[2:])
    return torch.cat([first, frames], dim=1).unflatten(1, (groups, factor))


def unfold_frames(folded: torch.Tensor) -> torch.Tensor:
    """[B, k + 1, factor, ...] -> frames [B, factor*k + 1, ...]: what `fold_frames` was given."""
    return folded.flatten(1, 2)[:, folded.shape[2] - 1 :]


def frame_width(width: int, factor: int) -> int:
    """Channels that each of `factor` frames gets of a feature `width`, rounded up: proportional feature expansion."""
    return -(-width // factor)


def prepend_reference_frame(tokens: torch.Tensor) -> torch.Tensor:
    """[B, k + 1, N, D] -> [B, k + 2, N, D]: zeros for the clean reference latent, which has no motion."""
    return F.pad(tokens, (0, 0, 0, 0, 1, 0))


class SkeletonProjection(nn.Module):
    """Skeleton latents, one per video frame -> one token per patch of each latent frame."""

    def __init__(self, channels: int, dim: int, factor: int, patch_size: tuple[int, int]) -> None:
        """Builds the projection.

        Args:
            channels: latent channels of a skeleton frame that the autoencoder encoded alone.
            dim: width of the transformer; each of `factor` frames gets dim / factor channels of a token.
            factor: temporal factor r of the autoencoder.
            patch_size: (height, width) of a patch in latents.

        Raises:
            ValueError: `dim` is not a multiple of `factor`.
        """
        super().__init__()
        if dim % factor:
            raise ValueError(
                f"Found a width of {dim}, expected a multiple of the temporal factor {factor}: "
                f"a skeleton token is made of {factor} frames."
            )
        self.factor = factor
        self.proj = nn.Conv2d(channels, dim // factor, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim // factor)

    def forward(self, skeleton_latents: torch.Tensor) -> torch.Tensor:
        """[B, C, r*k + 1, H, W] -> tokens [B, k + 1, N, D], N patches in row-major order."""
        batch, _, frames = skeleton_latents.shape[:3]
        patches = self.proj(skeleton_latents.transpose(1, 2).flatten(0, 1))
        patches = self.norm(patches.flatten(2).transpose(1, 2)).unflatten(0, (batch, frames))
        return fold_frames(patches, self.factor).transpose(2, 3).flatten(3)


class SkeletonPyramid(nn.Module):
    """Skeleton latents, one per video frame -> features of each latent frame at each resolution of a UNet.

    The channels follow the resolution: where the UNet is `width` wide, a frame has width / factor channels
    (rounded up) and the `factor` frames of a latent frame lie beside each other.
    """

    def __init__(self, channels: int, widths: Sequence[int], factor: int) -> None:
        """Builds the pyramid.

        Args:
            channels: latent channels of a skeleton frame that the autoencoder encoded alone.
            widths: of the UNet at each resolution, the finest first; each next one has half the height and width.
            factor: temporal factor r of the autoencoder.
        """
        super().__init__()
        self.factor = factor
        own = [frame_width(width, factor) for width in widths]
        self.widths = [factor * width for width in own]
        """Channels of the features at each resolution: `widths`, rounded up to a multiple of `factor`."""
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, kernel_size=3, stride=1 if level == 0 else 2, padding=1),
                nn.GroupNorm(1, after),
                nn.SiLU(),
            )
            for level, (before, after) in enumerate(zip([channels, *own], own, strict=False))
        )

    def forward(self, skeleton_latents: torch.Tensor) -> list[torch.Tensor]:
        """[B, C, r*k + 1, H, W] -> [B, k + 1, widths[i], H / 2^i, W / 2^i] of each level i, sizes rounded up."""
        batch = len(skeleton_latents)
        features = skeleton_latents.transpose(1, 2).flatten(0, 1)
        pyramid = []
        for level in self.levels:
            features = level(features)
            pyramid.append(fold_frames(features.unflatten(0, (batch, -1)), self.factor).flatten(2, 3))
        return pyramid


class AudioProjection(nn.Module):
    """Windows of speech features, one per video frame -> context tokens of each latent frame."""

    def __init__(
        self, window: int, blocks: int, channels: int, hidden_dim: int, context_tokens: int, dim: int, factor: int
    ) -> None:
        """Builds the projection.

        Args:
            window: feature frames around a video frame (Hallo4: 5).
            blocks: hidden layers of the speech encoder that are kept (wav2vec2: 12).
            channels: channels of each (wav2vec2: 768).
            hidden_dim: width of the projection.
            context_tokens: tokens per video frame.
            dim: width of the transformer.
            factor: temporal factor r of the autoencoder.
        """
        super().__init__()
        self.factor = factor
        self.context_tokens = context_tokens
        self.proj1 = nn.Linear(window * blocks * channels, hidden_dim)
        self.proj2 = nn.Linear(hidden_dim, hidden_dim)
        self.proj3 = nn.Linear(hidden_dim, context_tokens * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, audio_embeds: torch.Tensor) -> torch.Tensor:
        """[B, r*k + 1, window, blocks, channels] -> tokens [B, k + 1, r * context_tokens, D], earliest frame first."""
        hidden = F.relu(self.proj1(audio_embeds.flatten(2)))
        hidden = F.relu(self.proj2(hidden))
        tokens = self.norm(self.proj3(hidden).unflatten(-1, (self.context_tokens, -1)))
        return fold_frames(tokens, self.factor).flatten(2, 3)
