"""The tiny model that ships: Hallo4's structure at a size that a laptop samples and trains.

64 × 64 pixels, 25 frames at 25 fps. Its latents are principal components of 4 × 8 × 8 patches, its
speech features log filter banks, its control branch the reference latent in every frame.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from prefkit.backbones.audio_features import SAMPLE_RATE, audio_features, window_features
from prefkit.backbones.autoencoder import PatchAutoencoder, to_frames, to_pixels
from prefkit.backbones.contract import Conditioning
from prefkit.backbones.evaluating import evaluating
from prefkit.backbones.hashing import weights_hash
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.errors import PrefkitError

MIN_SIGMA = 0.05  # below it the velocity would be a difference of equals over nearly nothing
SHIPPED = Path(str(resources.files("prefkit"))) / "weights" / "tiny"


class TinyBackbone:
    """The tiny model as a `prefkit.backbones.contract.Backbone`."""

    name = "tiny"
    fps = 25.0
    frame_size = (64, 64)
    num_frames = 25
    prediction_type = "flow"

    def __init__(self, model: Any, autoencoder: PatchAutoencoder):
        self.model = model.float().eval()
        self.autoencoder = autoencoder.float().eval()
        self.weights_hash = weights_hash(model, autoencoder)

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path = SHIPPED, *, device: Any = None) -> "TinyBackbone":
        """Loads the shipped weights, or others of the same kind from a folder.

        The tiny model computes on the CPU, where it is as quick; `device` is taken and not used.

        Raises:
            PrefkitError: the folder lacks transformer/ or autoencoder/.
        """
        folder = Path(checkpoint)
        for part in ("transformer", "autoencoder"):
            if not (folder / part / "config.json").exists():
                raise PrefkitError(
                    f"{folder} holds no tiny model ({part}/config.json is missing); "
                    "make one with 'python -m trainers.pretraining'"
                )
        return cls(
            PortraitWanTransformer3DModel.from_pretrained(folder / "transformer"),
            PatchAutoencoder.from_pretrained(folder / "autoencoder"),
        )

    @torch.no_grad()
    def encode_condition(
        self, portrait: np.ndarray, audio: np.ndarray, skeleton: np.ndarray, text: str | None = None
    ) -> Conditioning:
        """As the contract says; the tiny model takes no text.

        Returns:
            reference [C, 1, h, w], skeleton [C, T, h, w] (each frame encoded alone), speech [T, 5, 1, 32].

        Raises:
            PrefkitError: sizes or lengths that the model cannot take.
        """
        frames = len(skeleton)
        self._check_size("portrait", portrait.shape[:2])
        if (frames - 1) % 4 or frames > self.num_frames:
            raise PrefkitError(f"the skeleton has {frames} frames; expected 4k + 1 and at most {self.num_frames}")
        features = audio_features(audio, self.fps)
        if len(features) < frames:
            raise PrefkitError(
                f"the speech lasts {len(audio) / SAMPLE_RATE:.2f} s; "
                f"expected at least the skeleton's {frames / self.fps:.2f} s"
            )
        return {
            "reference": self.autoencoder.encode(to_pixels(portrait[None, None]))[0],
            "skeleton": self.autoencoder.encode(skeleton_pixels(skeleton))[:, :, 0].transpose(0, 1).contiguous(),
            "speech": window_features(features[:frames]).unsqueeze(2),
        }

    @torch.no_grad()
    def encode_clip(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [T, 64, 64, 3] -> [C, (T − 1) / 4 + 1, 8, 8]."""
        self._check_size("clip", frames.shape[1:3])
        return self.autoencoder.encode(to_pixels(frames[None]))[0]

    @torch.no_grad()
    def decode_clip(self, latents: torch.Tensor) -> np.ndarray:
        """[C, F, 8, 8] -> uint8 [4F − 3, 64, 64, 3]."""
        return to_frames(self.autoencoder.decode(latents[None].float()).sample[0])

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Straight line from latents (timestep 0) to noise (1000)."""
        sigma = (timesteps / 1000).view(-1, 1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The velocity of that line."""
        return noise - latents

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity [B, C, F, h, w].

        The clean reference latent goes in front and is dropped again. The network's output is read as
        clean latents and turned into the velocity here: its width is less than a patch of noise has
        numbers, so it can describe a clip but not noise (Li & He 2025, arXiv 2511.13720).
        """
        sigma = (timesteps / 1000).clamp(min=MIN_SIGMA).view(-1, 1, 1, 1, 1)
        return (noisy - self._clean(noisy, timesteps, conditioning)) / sigma

    def _clean(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        reference = conditioning["reference"]
        return self.model(
            hidden_states=torch.cat([reference, noisy], dim=2),
            timestep=timesteps,
            encoder_hidden_states=noisy.new_zeros(len(noisy), 1, self.model.config.text_dim),
            control_hidden_states=reference.expand(-1, -1, noisy.shape[2] + 1, -1, -1),
            skeleton_latents=conditioning["skeleton"],
            audio_embeds=conditioning["speech"],
        ).sample[:, :, 1:]

    @torch.no_grad()
    def sample(
        self, conditioning: Conditioning, seeds: Sequence[int], *, num_inference_steps: int | None = None
    ) -> torch.Tensor:
        """Euler steps along the flow, denser towards noise (shift 2), as many as given or 12."""
        _, _, frames, height, width = conditioning["skeleton"].shape
        shape = (self.model.config.in_channels, (frames - 1) // 4 + 1, height, width)
        latents = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        sigmas = _shifted(torch.linspace(1, 0, (num_inference_steps or 12) + 1), shift=2.0)
        with evaluating(self.model):
            for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
                velocity = self.predict(latents, 1000 * sigma.expand(len(latents)), conditioning)
                latents = latents + (following - sigma) * velocity
        return latents

    def _check_size(self, name: str, size: tuple[int, ...]) -> None:
        if tuple(size) != self.frame_size:
            raise PrefkitError(f"the {name} is {size[1]}×{size[0]} pixels; the tiny model takes 64×64, resize it first")


def skeleton_pixels(skeleton: np.ndarray) -> torch.Tensor:
    """Shrinks by area: uint8 [T, S, S, 3], S at least 64, -> pixels [T, 3, 1, 64, 64] in −1…1, one image a frame.

    Raises:
        PrefkitError: the skeleton is smaller than 64 × 64 or not square.
    """
    height, width = skeleton.shape[1:3]
    if height != width or height < 64:
        raise PrefkitError(f"the skeleton is {width}×{height} pixels; the tiny model takes squares of at least 64×64")
    return adaptive_avg_pool2d(to_pixels(skeleton).transpose(0, 1), 64).unsqueeze(2)


def _shifted(sigmas: torch.Tensor, shift: float) -> torch.Tensor:
    return shift * sigmas / (1 + (shift - 1) * sigmas)
