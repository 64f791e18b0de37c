"""`PortraitPipeline`: a reference portrait, speech and a skeleton in, a video out, as a diffusers pipeline.

Source: Hallo4, arXiv 2505.23525; VACE, arXiv 2503.07598. The settings by default are those of Hallo4's release.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, DiffusionPipeline, UniPCMultistepScheduler
from diffusers.loaders.lora_pipeline import CogVideoXLoraLoaderMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from transformers import Wav2Vec2FeatureExtractor

from prefkit.backbones.audio_features import window_features
from prefkit.backbones.conditioning import encode_motion, encode_text
from prefkit.backbones.contract import Conditioning
from prefkit.backbones.denoising import denoise
from prefkit.backbones.framing import content_columns
from prefkit.backbones.latents import decode_latents, device_of, encode_pixels, spatial_factor, temporal_factor
from prefkit.backbones.speech import VideoRateWav2Vec2Model
from prefkit.backbones.tmm import num_latent_frames
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.errors import PrefkitError
from prefkit.skeletons.drawing import draw_skeleton
from prefkit.skeletons.resampling import resample_frames

FLOW_SHIFT = 8.0
BLANKED = 0.1  # of the 2 × 2 pixel patches of a frame that a clip goes on from
Generators = torch.Generator | list[torch.Generator] | None


@dataclass
class PortraitPipelineOutput(BaseOutput):
    """What `PortraitPipeline` makes: `frames`, one clip per video."""

    frames: Any


class PortraitPipeline(  # type: ignore[misc]  # two of diffusers' bases type config_name differently
    DiffusionPipeline, CogVideoXLoraLoaderMixin
):
    """Animates a portrait by speech and a skeleton.

    Args:
        transformer: the TMM transformer.
        vae: Wan's autoencoder.
        speech_encoder: wav2vec2; `VideoRateWav2Vec2Model.from_pretrained` reads its published weights.
        feature_extractor: its normalisation.
        scheduler: a flow scheduler; `flow_scheduler()` is Hallo4's.
        tokenizer: UMT5's; without it there can be no texts.
        text_encoder: UMT5.
        fps: frame rate of the model's clips.
        num_frames: length of the windows a long clip is made of, r*k + 1.
        height: of the frames in pixels, a multiple of 16.
        width: likewise.
    """

    model_cpu_offload_seq = "text_encoder->speech_encoder->transformer->vae"
    _optional_components = ["tokenizer", "text_encoder"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        transformer: PortraitWanTransformer3DModel,
        vae: AutoencoderKLWan,
        speech_encoder: VideoRateWav2Vec2Model,
        feature_extractor: Wav2Vec2FeatureExtractor,
        scheduler: UniPCMultistepScheduler,
        tokenizer: Any = None,
        text_encoder: Any = None,
        fps: float = 25.0,
        num_frames: int = 81,
        height: int = 480,
        width: int = 832,
    ):
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            speech_encoder=speech_encoder,
            feature_extractor=feature_extractor,
            scheduler=scheduler,
            tokenizer=tokenizer,
            text_encoder=text_encoder,
        )
        self.register_to_config(fps=fps, num_frames=num_frames, height=height, width=width)
        self._check_components()
        self.video_processor = VideoProcessor(vae_scale_factor=spatial_factor(vae))

    @classmethod
    def lora_state_dict(cls, *args: Any, **kwargs: Any) -> Any:
        """As diffusers reads it; a file without the prefix "transformer." (as trainers save it) is taken as well."""
        with_metadata = kwargs.pop("return_lora_metadata", False)
        weights, metadata = super().lora_state_dict(*args, return_lora_metadata=True, **kwargs)
        if not any(name.startswith("transformer.") for name in weights):
            weights, metadata = (
                part and {f"transformer.{name}": value for name, value in part.items()} for part in (weights, metadata)
            )
        return (weights, metadata) if with_metadata else weights

    @torch.no_grad()
    def __call__(
        self,
        portrait: Any,
        audio: np.ndarray,
        skeleton: Any = None,
        *,
        keypoints: np.ndarray | None = None,
        skeleton_fps: float | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 25,
        guidance_scale: float = 6.0,
        num_videos_per_condition: int = 1,
        generator: Generators = None,
        output_type: str = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> PortraitPipelineOutput | tuple[Any]:
        """Makes videos of one condition, which is encoded once for all of them.

        A skeleton longer than `num_frames` is animated window by window, each going on from the last frame of
        the one before.

        Args:
            portrait: PIL image or uint8 [H, W, 3] RGB.
            audio: int16 [N], mono, 16 kHz, as long as the skeleton.
            skeleton: uint8 [T, H, W, 3] RGB, or PIL images, T = 4k + 1 after resampling, framed as the portrait.
            keypoints: instead of `skeleton`, [T, 18 or 128, 3] in pixels of the portrait, to be drawn
                (`prefkit.skeletons.drawing`).
            skeleton_fps: frame rate of the skeleton, where it is not the model's.
            prompt: a text, or None.
            negative_prompt: what guidance leads away from; the empty text by default.
            height: of the frames the model computes; None for the pipeline's own.
            width: likewise; a narrower portrait gets black bars, which the output does not have.
            num_inference_steps: of the scheduler.
            guidance_scale: of the condition against zero speech features and the negative prompt; 1 for none.
            num_videos_per_condition: how many.
            generator: one, or one per video.
            output_type: "np" (float 0…1), "pt", "pil", or "latent" (windows' latents, a list).
            return_dict: an object with `.frames`, or a tuple.
            attention_kwargs: `scale` of loaded LoRA weights.
            callback_on_step_end: called as `(pipeline, step, timestep, {"latents": …})`; may return other latents.

        Returns:
            `.frames`: "np" [B, T, H, W, 3], "pt" [B, T, 3, H, W], "pil" lists of images.

        Raises:
            PrefkitError: sizes or lengths that the model cannot take.
        """
        portrait = np.asarray(portrait)
        size = (height or self.config.height, width or self.config.width)
        self._check_call(size, num_videos_per_condition, generator)
        frames = self._skeleton_frames(portrait, skeleton, keypoints, skeleton_fps)
        conditioning = self.encode_condition(portrait, audio, frames, prompt, size)
        guided = guidance_scale > 1
        negative = self.encode_text(negative_prompt) if guided else None
        batched = {
            name: tensor.expand(num_videos_per_condition, *tensor.shape) for name, tensor in conditioning.items()
        }
        pixels: torch.Tensor | None = None
        windows = []
        for start, length, kept in _windows(len(frames), self.config.num_frames):
            window = batched | _cut(batched, start, length)
            control = self.control(window, None if pixels is None else pixels[:, :, -1], generator)
            latents = self.denoise(
                window | {"control": control},
                self._noise(window, num_videos_per_condition, generator),
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                negative=negative,
                attention_kwargs=attention_kwargs,
                callback_on_step_end=callback_on_step_end,
            )
            windows.append(latents)
            if output_type == "latent":
                if start + length < len(frames):
                    pixels = decode_latents(self.vae, latents)
                continue
            made = decode_latents(self.vae, latents)[:, :, :kept]
            pixels = made if pixels is None else torch.cat([pixels, made[:, :, 1:]], dim=2)
        video: Any = windows
        if output_type != "latent":
            shown = pixels[..., content_columns(portrait.shape, size)]  # type: ignore[index]
            video = self.video_processor.postprocess_video(shown, output_type=output_type)
        self.maybe_free_model_hooks()
        return PortraitPipelineOutput(frames=video) if return_dict else (video,)

    @torch.no_grad()
    def encode_condition(
        self,
        portrait: np.ndarray,
        audio: np.ndarray,
        skeleton: np.ndarray,
        prompt: str | None,
        size: tuple[int, int],
    ) -> Conditioning:
        """One condition as tensors without a batch dimension, float32 on the CPU.

        Returns:
            What `prefkit.backbones.conditioning.encode_motion` returns, text [L, D], and blank [C, k + 1, h, w]:
            the latents of a clip of which nothing is known (at most `num_frames` long).

        Raises:
            PrefkitError: see `encode_motion` and `encode_text`.
        """
        text = self.encode_text(prompt)
        motion = encode_motion(self, portrait, audio, skeleton, size=size, fps=self.config.fps)
        length = min(len(skeleton), self.config.num_frames)
        blank = encode_pixels(self.vae, torch.zeros(1, 3, length, *size))[0].cpu()
        return motion | {"text": text, "blank": blank}

    def encode_text(self, text: str | None) -> torch.Tensor:
        """float32 [L, D] on the CPU; see `prefkit.backbones.conditioning.encode_text`."""
        width = self.transformer.config.text_dim
        return encode_text(self.tokenizer, self.text_encoder, text, width)

    def control(
        self, conditioning: Conditioning, first_frame: torch.Tensor | None = None, generator: Generators = None
    ) -> torch.Tensor:
        """VACE's context: what is known of the clip, what is to be made, and a mask of where.

        Args:
            conditioning: with a batch dimension, of one window.
            first_frame: pixels [B, 3, H, W] the window goes on from, or None for a first window.
            generator: of the patches that are blanked in `first_frame`.

        Returns:
            [B, 2C + s², k + 2, h, w] for an autoencoder that shrinks s times: the reference latent in front, then
            latents of what is known, latents of what is to be made (empty), and the mask, 1 where it is to be made.
        """
        reference, blank = conditioning["reference"], conditioning["blank"]
        groups = num_latent_frames(conditioning["skeleton"].shape[2], temporal_factor(self.vae))
        blank = blank[:, :, :groups]
        known = blank
        mask = blank.new_ones(len(blank), spatial_factor(self.vae) ** 2, *blank.shape[2:])
        if first_frame is not None:
            known = self._encode_continuation(first_frame, groups, generator).to(blank)
            mask = mask * first_frame_mask(groups, temporal_factor(self.vae)).to(blank).view(1, 1, -1, 1, 1)
        made = F.pad(torch.cat([blank, mask], dim=1), (0, 0, 0, 0, 1, 0))
        return torch.cat([torch.cat([reference, known], dim=2), made], dim=1)

    def velocity(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        *,
        transformer: torch.nn.Module | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """The transformer's velocity [B, C, k + 1, h, w] of noisy video latents, in their dtype.

        The clean reference latent goes in front and is dropped again, so sampling writes it back at every step
        and no loss sees it. `conditioning` has `control` or gets the one of a first window. `transformer` is
        another than the pipeline's own, such as a frozen copy.
        """
        model: Any = self.transformer if transformer is None else transformer
        device, dtype = latents.device, model.dtype
        control = conditioning.get("control")
        inputs = {
            "hidden_states": torch.cat([conditioning["reference"].to(latents), latents], dim=2),
            "encoder_hidden_states": conditioning["text"],
            "control_hidden_states": self.control(conditioning) if control is None else control,
            "skeleton_latents": conditioning["skeleton"],
            "audio_embeds": self._speech_windows(conditioning["speech"]),
        }
        velocity = model(
            **{name: tensor.to(device, dtype) for name, tensor in inputs.items()},
            timestep=timesteps.to(device),
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0]
        return velocity[:, :, 1:].to(latents.dtype)

    def denoise(
        self,
        conditioning: Conditioning,
        latents: torch.Tensor,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        negative: torch.Tensor | None = None,
        transformer: torch.nn.Module | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> torch.Tensor:
        """Noise -> latents of one window.

        Args:
            conditioning: with a batch dimension; `control` is the one of a first window unless it is there.
            latents: noise [B, C, k + 1, h, w].
            num_inference_steps: of the scheduler.
            guidance_scale: 1 for none.
            negative: text features [L, D] of the unconditional pass, which also has zero speech features and keeps
                the skeleton; needed where there is guidance.
            transformer: another than the pipeline's own.
            attention_kwargs: `scale` of loaded LoRA weights.
            callback_on_step_end: see `__call__`.
        """
        device = device_of(self.transformer if transformer is None else transformer)
        known = conditioning if "control" in conditioning else conditioning | {"control": self.control(conditioning)}
        given = {name: tensor.to(device) for name, tensor in known.items()}
        without: Conditioning | None = None
        if guidance_scale > 1:
            if negative is None:
                raise ValueError("Found guidance without features of a negative text, expected them from encode_text.")
            text = negative.to(device).expand(len(latents), -1, -1)
            without = given | {"text": text, "speech": torch.zeros_like(given["speech"])}

        def predict(noisy: torch.Tensor, timesteps: torch.Tensor, with_condition: bool) -> torch.Tensor:
            chosen = given if with_condition or without is None else without
            return self.velocity(noisy, timesteps, chosen, transformer=transformer, attention_kwargs=attention_kwargs)

        def after_step(step: int, timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
            bar.update()
            if callback_on_step_end is None:
                return latents
            return callback_on_step_end(self, step, timestep, {"latents": latents}).pop("latents", latents)

        with self.progress_bar(total=num_inference_steps) as bar:
            noise = latents.to(device, torch.float32)
            return denoise(self.scheduler, predict, noise, num_inference_steps, guidance_scale, after_step)

    def _speech_windows(self, speech: torch.Tensor) -> torch.Tensor:
        """[B, T, layers, channels] -> [B, T, window, layers, channels]."""
        windows = window_features(speech.flatten(2), self.transformer.config.audio_window)
        return windows.unflatten(-1, speech.shape[2:])

    def _encode_continuation(self, frame: torch.Tensor, groups: int, generator: Generators) -> torch.Tensor:
        frames = temporal_factor(self.vae) * (groups - 1) + 1
        video = torch.zeros(len(frame), 3, frames, *frame.shape[2:])
        video[:, :, 0] = blank_patches(frame.cpu().float(), generator)
        return encode_pixels(self.vae, video)

    def _skeleton_frames(
        self, portrait: np.ndarray, skeleton: Any, keypoints: np.ndarray | None, fps: float | None
    ) -> np.ndarray:
        if (skeleton is None) == (keypoints is None):
            found = "neither" if skeleton is None else "both"
            raise PrefkitError(f"found {found} of skeleton frames and keypoints; expected one of them")
        if keypoints is not None:
            frames = draw_skeleton(keypoints, portrait.shape[:2])
        elif isinstance(skeleton, np.ndarray):
            frames = skeleton
        else:
            frames = np.stack([np.asarray(image) for image in skeleton])
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise PrefkitError(
                f"the skeleton is {frames.dtype} of shape {frames.shape}; expected uint8 [T, H, W, 3], RGB"
            )
        return frames if fps is None else resample_frames(frames, fps, self.config.fps)

    def _noise(self, conditioning: Conditioning, videos: int, generator: Generators) -> torch.Tensor:
        _, channels, frames, height, width = conditioning["skeleton"].shape
        groups = num_latent_frames(frames, temporal_factor(self.vae))
        shape = (videos, self.transformer.config.in_channels, groups, height, width)
        return randn_tensor(shape, generator=generator, device=device_of(self.transformer), dtype=torch.float32)

    def _check_components(self) -> None:
        if self.vae is None or self.transformer is None:
            return  # a part of a pipeline, as diffusers can load one
        config = self.transformer.config
        wanted = 2 * config.in_channels + spatial_factor(self.vae) ** 2
        if config.vace_in_channels != wanted or config.temporal_factor != temporal_factor(self.vae):
            raise PrefkitError(
                f"the transformer has {config.vace_in_channels} control channels and a temporal factor of "
                f"{config.temporal_factor}; expected {wanted} and {temporal_factor(self.vae)} with this autoencoder"
            )

    def _check_call(self, size: tuple[int, int], videos: int, generator: Generators) -> None:
        step = spatial_factor(self.vae) * self.transformer.config.patch_size[1]
        if size[0] % step or size[1] % step or min(size) < step:
            raise PrefkitError(f"frames of {size[1]}×{size[0]} were asked for; expected sides that {step} divides")
        if isinstance(generator, list) and len(generator) != videos:
            raise PrefkitError(f"found {len(generator)} generators for {videos} videos; expected one each, or one")


def flow_scheduler() -> UniPCMultistepScheduler:
    """The scheduler of Hallo4's release."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT, num_train_timesteps=1000
    )


def blank_patches(frame: torch.Tensor, generator: Generators = None) -> torch.Tensor:
    """Pixels [B, 3, H, W] with a tenth of their 2 × 2 patches black, so that errors of a window are not handed on."""
    batch, _, height, width = frame.shape
    patches = (height // 2) * (width // 2)
    own = generator if isinstance(generator, Sequence) else [generator] * batch
    black = torch.zeros(batch, patches, dtype=torch.bool)
    for row, source in zip(black, own, strict=True):
        device = "cpu" if source is None else source.device
        row[torch.randperm(patches, generator=source, device=device)[: int(BLANKED * patches)].cpu()] = True
    mask = black.view(batch, 1, height // 2, width // 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return frame.masked_fill(mask, -1.0)


def first_frame_mask(groups: int, factor: int) -> torch.Tensor:
    """VACE's mask [groups] of a clip whose first frame is known, folded as VACE does: by the nearest frame.

    With many frames the nearest one to the first latent frame is not the first, so nothing is left of it; the
    published weights know it so.
    """
    mask = torch.ones(1, 1, factor * (groups - 1) + 1)
    mask[..., 0] = 0
    return F.interpolate(mask, size=groups, mode="nearest-exact").flatten()


def _windows(total: int, longest: int) -> list[tuple[int, int, int]]:
    """(first frame, frames, frames kept) of each window; the last is filled up to its full length (Hallo4)."""
    if total <= longest:
        return [(0, total, total)]
    starts = range(0, total - 1, longest - 1)
    return [(start, longest, min(longest, total - start)) for start in starts]


def _cut(conditioning: Conditioning, start: int, length: int) -> Conditioning:
    """The window's frames of skeleton [B, C, T, h, w] and speech [B, T, …], the last one repeated where they end."""
    skeleton, speech = conditioning["skeleton"], conditioning["speech"]
    index = torch.arange(start, start + length).clamp(max=skeleton.shape[2] - 1)
    return {"skeleton": skeleton[:, :, index], "speech": speech[:, index]}
