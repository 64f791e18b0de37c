"""The TMM UNet as a `prefkit.backbones.contract.Backbone`, with an autoencoder of images or of videos."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor

from prefkit.backbones.audio_features import window_features
from prefkit.backbones.autoencoder import PatchAutoencoder, to_frames
from prefkit.backbones.conditioning import check_frames, encode_motion, encode_text
from prefkit.backbones.contract import Conditioning
from prefkit.backbones.denoising import denoise, noise_of_seeds
from prefkit.backbones.evaluating import evaluating
from prefkit.backbones.framing import fit_pixels
from prefkit.backbones.hashing import weights_hash
from prefkit.backbones.latents import (
    Autoencoder,
    decode_latents,
    device_of,
    encode_pixels,
    temporal_factor,
)
from prefkit.backbones.speech import VideoRateWav2Vec2Model
from prefkit.backbones.tmm import num_latent_frames
from prefkit.backbones.unet import PortraitUNetModel
from prefkit.errors import PrefkitError
from prefkit.workspace import atomic_folder

_AUTOENCODERS = {
    kind.__name__: kind for kind in (diffusers.AutoencoderKL, diffusers.AutoencoderKLWan, PatchAutoencoder)
}
_TEXT_LENGTH = 77
_SETTINGS = "backbone.json"


class UNetBackbone:
    """A denoiser of AnimateDiff's kind that follows a skeleton and speech.

    Args:
        model: the UNet.
        vae: of images (r = 1) or videos; its temporal factor is the UNet's.
        speech_encoder: wav2vec2.
        feature_extractor: its normalisation.
        scheduler: diffusers'. A flow scheduler makes the UNet predict velocities; DDIM's `prediction_type` says
            "epsilon" or "v_prediction".
        tokenizer: of the text encoder; without it there can be no texts.
        text_encoder: a transformers text encoder.
        fps: frame rate of its clips.
        frame_size: (height, width) of its clips in pixels.
        num_frames: the longest clip, r*k + 1.
        num_inference_steps: of a sampled clip.
        guidance_scale: against zero speech features and the empty text; 1 for none.

    Raises:
        PrefkitError: model and autoencoder do not fit each other.
    """

    name = "unet"

    def __init__(
        self,
        model: PortraitUNetModel,
        vae: Autoencoder,
        speech_encoder: VideoRateWav2Vec2Model,
        feature_extractor: Wav2Vec2FeatureExtractor,
        scheduler: Any,
        tokenizer: Any = None,
        text_encoder: Any = None,
        *,
        fps: float = 25.0,
        frame_size: tuple[int, int] = (512, 512),
        num_frames: int = 25,
        num_inference_steps: int = 25,
        guidance_scale: float = 3.5,
    ):
        if model.config.temporal_factor != temporal_factor(vae):
            raise PrefkitError(
                f"the UNet folds {model.config.temporal_factor} frames and the autoencoder {temporal_factor(vae)}; "
                "expected the same temporal factor"
            )
        self.model: Any = model.eval()
        self.vae = vae.eval()
        self.speech_encoder, self.feature_extractor = speech_encoder.eval(), feature_extractor
        self.scheduler = scheduler
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self.fps, self.frame_size, self.num_frames = fps, frame_size, num_frames
        self.num_inference_steps, self.guidance_scale = num_inference_steps, guidance_scale
        kind = scheduler.config.get("prediction_type", "flow_prediction")
        self.prediction_type = "flow" if kind == "flow_prediction" else kind
        encoders = (vae, speech_encoder, text_encoder)
        self.weights_hash = weights_hash(model, *(part for part in encoders if part is not None))

    @classmethod
    def from_pretrained(
        cls, checkpoint: str | Path | None = None, *, device: torch.device | str | None = None, **options: Any
    ) -> "UNetBackbone":
        """Loads a folder that `save_pretrained` wrote.

        Raises:
            PrefkitError: there is none.
        """
        if checkpoint is None or not (Path(checkpoint) / _SETTINGS).is_file():
            raise PrefkitError(
                f"found {checkpoint or 'no checkpoint'} for the backbone unet; expected a folder that "
                "UNetBackbone.save_pretrained wrote, so name one with --checkpoint"
            )
        folder = Path(checkpoint)
        settings = json.loads((folder / _SETTINGS).read_text())
        settings["frame_size"] = tuple(settings["frame_size"])
        kind = json.loads((folder / "vae" / "config.json").read_text())["_class_name"]
        text: dict[str, Any] = {}
        if (folder / "text_encoder").is_dir():
            kind_of_text = json.loads((folder / "text_encoder" / "config.json").read_text())["architectures"][0]
            text["tokenizer"] = AutoTokenizer.from_pretrained(folder / "tokenizer")
            text["text_encoder"] = getattr(transformers, kind_of_text).from_pretrained(folder / "text_encoder")
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
        backbone = cls(
            PortraitUNetModel.from_pretrained(folder / "unet"),
            _AUTOENCODERS[kind].from_pretrained(folder / "vae"),
            VideoRateWav2Vec2Model.from_pretrained(folder / "speech_encoder"),
            Wav2Vec2FeatureExtractor.from_pretrained(folder / "feature_extractor"),
            getattr(diffusers, scheduler).from_pretrained(folder / "scheduler"),
            **text,
            **settings | options,
        )
        for part in (backbone.model, backbone.vae, backbone.speech_encoder, backbone.text_encoder):
            if part is not None and device is not None:
                part.to(device)
        return backbone

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes all parts and settings, each part as diffusers or transformers saves it."""
        parts = {
            "unet": self.model,
            "vae": self.vae,
            "speech_encoder": self.speech_encoder,
            "feature_extractor": self.feature_extractor,
            "scheduler": self.scheduler,
            "tokenizer": self.tokenizer,
            "text_encoder": self.text_encoder,
        }
        settings = {
            name: getattr(self, name)
            for name in ("fps", "frame_size", "num_frames", "num_inference_steps", "guidance_scale")
        }
        with atomic_folder(Path(folder)) as temporary:
            for name, part in parts.items():
                if part is not None:
                    part.save_pretrained(temporary / name)
            (temporary / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")

    def encode_condition(
        self, portrait: np.ndarray, audio: np.ndarray, skeleton: np.ndarray, text: str | None = None
    ) -> Conditioning:
        """As the contract says; see `prefkit.backbones.conditioning`.

        Returns:
            reference [C, 1, h, w], skeleton [C, T, h, w], speech [T, layers, channels] and text [L, D].

        Raises:
            PrefkitError: the skeleton is not r*k + 1 frames long, longer than the model or the speech, or there is
                a text and no encoder.
        """
        if len(skeleton) > self.num_frames:
            raise PrefkitError(
                f"the skeleton has {len(skeleton)} frames; expected at most {self.num_frames}, so cut it"
            )
        motion = encode_motion(self, portrait, audio, skeleton, size=self.frame_size, fps=self.fps)
        return motion | {"text": self._text(text)}

    @torch.no_grad()
    def encode_clip(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [r*k + 1, H, W, 3] -> float32 [C, k + 1, h, w]."""
        check_frames(len(frames), temporal_factor(self.vae))
        return encode_pixels(self.vae, fit_pixels(frames, self.frame_size)[None])[0].cpu()

    @torch.no_grad()
    def decode_clip(self, latents: torch.Tensor) -> np.ndarray:
        """[C, k + 1, h, w] -> uint8 [r*k + 1, H, W, 3]."""
        return to_frames(decode_latents(self.vae, latents[None]).cpu()[0])

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The straight line to noise for velocities, else the scheduler's own."""
        if self.prediction_type != "flow":
            return self.scheduler.add_noise(latents, noise, _discrete(timesteps))
        sigma = (timesteps / 1000).view(-1, 1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Noise − latents ("flow"), the noise ("epsilon") or their mixture ("v_prediction")."""
        if self.prediction_type == "flow":
            return noise - latents
        if self.prediction_type == "epsilon":
            return noise
        return self.scheduler.get_velocity(latents, noise, _discrete(timesteps))

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """What the UNet predicts [B, C, k + 1, h, w], without guidance."""
        known = timesteps if self.prediction_type == "flow" else _discrete(timesteps)
        return self._predict(noisy, known, conditioning)

    @torch.no_grad()
    def sample(
        self, conditioning: Conditioning, seeds: Sequence[int], *, num_inference_steps: int | None = None
    ) -> torch.Tensor:
        """Latents [B, C, k + 1, h, w] on the CPU, with guidance."""
        device = device_of(self.model)
        given = {name: tensor.to(device) for name, tensor in conditioning.items()}
        without = given | {"speech": torch.zeros_like(given["speech"])}
        if self.guidance_scale > 1:
            without["text"] = self._text(None).to(device).expand_as(given["text"])
        _, _, frames, height, width = given["skeleton"].shape
        groups = num_latent_frames(frames, temporal_factor(self.vae))
        noise = noise_of_seeds(seeds, (self.model.config.in_channels, groups, height, width)).to(device)

        def predict(noisy: torch.Tensor, timesteps: torch.Tensor, with_condition: bool) -> torch.Tensor:
            return self._predict(noisy, timesteps, given if with_condition else without)

        steps = num_inference_steps or self.num_inference_steps
        with evaluating(self.model):
            return denoise(self.scheduler, predict, noise, steps, self.guidance_scale).cpu()

    def _predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        model = self.model
        speech = conditioning["speech"]
        windows = window_features(speech.flatten(2), model.config.audio_window).unflatten(-1, speech.shape[2:])
        inputs = {
            "hidden_states": noisy,
            "reference_latents": conditioning["reference"],
            "skeleton_latents": conditioning["skeleton"],
            "audio_embeds": windows,
            "encoder_hidden_states": conditioning["text"],
        }
        inputs = {name: tensor.to(noisy.device, model.dtype) for name, tensor in inputs.items()}
        return model(timestep=timesteps.to(noisy.device), **inputs).sample.to(noisy.dtype)

    def _text(self, text: str | None) -> torch.Tensor:
        return encode_text(self.tokenizer, self.text_encoder, text, self.model.config.text_dim, _TEXT_LENGTH)


def _discrete(timesteps: torch.Tensor) -> torch.Tensor:
    """The contract's (0, 1000] -> 0 … 999, as schedulers of discrete noise levels count."""
    return (timesteps.ceil().long() - 1).clamp(min=0)
