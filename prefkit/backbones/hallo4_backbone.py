"""Hallo4 as a `prefkit.backbones.contract.Backbone`: `PortraitPipeline`'s components, one window long."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from transformers import AutoTokenizer, UMT5EncoderModel, Wav2Vec2FeatureExtractor

from prefkit.backbones.autoencoder import to_frames
from prefkit.backbones.contract import Conditioning
from prefkit.backbones.denoising import noise_of_seeds
from prefkit.backbones.evaluating import evaluating
from prefkit.backbones.framing import fit_pixels
from prefkit.backbones.hallo4 import load_hallo4_checkpoint
from prefkit.backbones.hashing import weights_hash
from prefkit.backbones.latents import decode_latents, encode_pixels, temporal_factor
from prefkit.backbones.pipeline import PortraitPipeline, flow_scheduler
from prefkit.backbones.tmm import num_latent_frames
from prefkit.errors import PrefkitError

COMPONENTS = ("vae", "text_encoder", "tokenizer", "speech_encoder", "feature_extractor")


class Hallo4Backbone:
    """Samples and trains what a `PortraitPipeline` holds.

    Args:
        pipeline: the components, on the device where they are to compute.
        num_inference_steps: of a sampled clip.
        guidance_scale: against zero speech features and `negative_prompt`.
        negative_prompt: None for the empty text.
    """

    name = "hallo4"
    prediction_type = "flow"

    def __init__(
        self,
        pipeline: PortraitPipeline,
        *,
        num_inference_steps: int = 25,
        guidance_scale: float = 6.0,
        negative_prompt: str | None = None,
    ):
        pipeline.set_progress_bar_config(disable=True)  # whoever samples many clips shows one of their own
        self.pipeline = pipeline
        self.num_inference_steps, self.guidance_scale = num_inference_steps, guidance_scale
        self.negative_prompt = negative_prompt
        config: Any = pipeline.config
        self.fps, self.num_frames = float(config.fps), int(config.num_frames)
        self.frame_size = (int(config.height), int(config.width))
        self.model: torch.nn.Module = pipeline.transformer.eval()
        parts = (pipeline.transformer, pipeline.vae, pipeline.speech_encoder, pipeline.text_encoder)
        self.weights_hash = weights_hash(*(part for part in parts if part is not None))

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path | None = None,
        *,
        device: torch.device | str | None = None,
        torch_dtype: torch.dtype | None = None,
        **options: Any,
    ) -> "Hallo4Backbone":
        """Loads a folder that `PortraitPipeline.save_pretrained` wrote, or Hallo4's transformer beside its components.

        Args:
            checkpoint: the folder, or a file (.pth, .ckpt, .safetensors) in a folder that also has vae/,
                text_encoder/, tokenizer/ (of Wan2.1 in diffusers' layout), speech_encoder/ and feature_extractor/
                (of wav2vec2-base-960h).
            device: where to compute; the CPU by default.
            torch_dtype: of the transformer and the text encoder; bfloat16 by default, float32 on the CPU.
            options: of `Hallo4Backbone`.

        Raises:
            PrefkitError: something is missing, or the transformer and the autoencoder do not fit each other.
        """
        if checkpoint is None:
            raise PrefkitError("hallo4 needs its weights; name them with --checkpoint (docs/backbones.md says which)")
        at = torch.device(device or "cpu")
        dtype = torch_dtype or (torch.float32 if at.type == "cpu" else torch.bfloat16)
        path = Path(checkpoint)
        pipeline = _from_file(path, dtype) if path.is_file() else _from_folder(path, dtype)
        return cls(pipeline.to(at), **options)

    def encode_condition(
        self, portrait: np.ndarray, audio: np.ndarray, skeleton: np.ndarray, text: str | None = None
    ) -> Conditioning:
        """As the contract says; see `PortraitPipeline.encode_condition`.

        Raises:
            PrefkitError: the skeleton is not 4k + 1 frames long, longer than one window or than the speech.
        """
        if len(skeleton) > self.num_frames:
            raise PrefkitError(
                f"the skeleton has {len(skeleton)} frames; expected at most {self.num_frames}, so cut it, or make "
                "longer clips with PortraitPipeline"
            )
        return self.pipeline.encode_condition(portrait, audio, skeleton, text, self.frame_size)

    @torch.no_grad()
    def encode_clip(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [4k + 1, H, W, 3] -> float32 [C, k + 1, h, w]."""
        num_latent_frames(len(frames), temporal_factor(self.pipeline.vae))
        return encode_pixels(self.pipeline.vae, fit_pixels(frames, self.frame_size)[None])[0].cpu()

    @torch.no_grad()
    def decode_clip(self, latents: torch.Tensor) -> np.ndarray:
        """[C, k + 1, h, w] -> uint8 [4k + 1, H, W, 3]."""
        return to_frames(decode_latents(self.pipeline.vae, latents[None]).cpu()[0])

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Straight line from latents (timestep 0) to noise (1000)."""
        sigma = (timesteps / 1000).view(-1, 1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The velocity of that line."""
        return noise - latents

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity [B, C, k + 1, h, w], without guidance."""
        return self.pipeline.velocity(noisy, timesteps, conditioning, transformer=self.model)

    @torch.no_grad()
    def sample(
        self, conditioning: Conditioning, seeds: Sequence[int], *, num_inference_steps: int | None = None
    ) -> torch.Tensor:
        """Latents [B, C, k + 1, h, w] on the CPU, with guidance."""
        _, _, groups, height, width = conditioning["blank"].shape
        noise = noise_of_seeds(seeds, (self.pipeline.transformer.config.in_channels, groups, height, width))
        negative = self.pipeline.encode_text(self.negative_prompt) if self.guidance_scale > 1 else None
        with evaluating(self.model):
            latents = self.pipeline.denoise(
                conditioning,
                noise,
                num_inference_steps=num_inference_steps or self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                negative=negative,
                transformer=self.model,
            )
        return latents.cpu()


def _from_folder(folder: Path, dtype: torch.dtype) -> PortraitPipeline:
    if not (folder / "model_index.json").is_file():
        raise PrefkitError(
            f"{folder} holds no pipeline (model_index.json is missing); expected a folder that "
            "PortraitPipeline.save_pretrained wrote, or the file of Hallo4's transformer"
        )
    # the autoencoder loses detail in half precision
    pipeline = PortraitPipeline.from_pretrained(folder, torch_dtype={"default": dtype, "vae": torch.float32})
    return pipeline


def _from_file(path: Path, dtype: torch.dtype) -> PortraitPipeline:
    missing = [name for name in COMPONENTS if not (path.parent / name).is_dir()]
    if missing:
        raise PrefkitError(
            f"{path.parent} has no {', '.join(missing)} beside {path.name}; expected Hallo4's transformer next to "
            "its components (docs/backbones.md says where they come from)"
        )
    from prefkit.backbones.speech import VideoRateWav2Vec2Model

    return PortraitPipeline(
        transformer=load_hallo4_checkpoint(path, torch_dtype=dtype),
        vae=AutoencoderKLWan.from_pretrained(path.parent / "vae"),
        text_encoder=UMT5EncoderModel.from_pretrained(path.parent / "text_encoder", dtype=dtype),
        tokenizer=AutoTokenizer.from_pretrained(path.parent / "tokenizer"),
        speech_encoder=VideoRateWav2Vec2Model.from_pretrained(path.parent / "speech_encoder"),
        feature_extractor=Wav2Vec2FeatureExtractor.from_pretrained(path.parent / "feature_extractor"),
        scheduler=flow_scheduler(),
    )
