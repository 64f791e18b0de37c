"""One condition (portrait, speech, skeleton, text) -> named tensors, shared by the full-size backbones."""

from typing import Any

import numpy as np
import torch

from prefkit.backbones.audio_features import SAMPLE_RATE
from prefkit.backbones.contract import Conditioning
from prefkit.backbones.framing import fit_pixels
from prefkit.backbones.latents import Autoencoder, device_of, encode_frames_alone, encode_pixels, temporal_factor
from prefkit.backbones.speech import speech_features
from prefkit.errors import PrefkitError

TEXT_LENGTH = 512


@torch.no_grad()
def encode_motion(
    components: Any,
    portrait: np.ndarray,
    audio: np.ndarray,
    skeleton: np.ndarray,
    *,
    size: tuple[int, int],
    fps: float,
) -> Conditioning:
    """Portrait, skeleton and speech of one condition.

    Args:
        components: has `vae`, `speech_encoder` and `feature_extractor`.
        portrait: uint8 [H, W, 3] RGB.
        audio: int16 [N], mono, 16 kHz.
        skeleton: uint8 [T, H, W, 3] RGB, T = r*k + 1.
        size: (height, width) of the model's frames in pixels.
        fps: frame rate of the skeleton and the model.

    Returns:
        reference [C, 1, h, w], skeleton [C, T, h, w] (every frame encoded alone) and speech [T, layers, channels]
        (without windows, which repeat every frame five times), float32 on the CPU.

    Raises:
        PrefkitError: T is not r*k + 1, or the speech ends before the skeleton.
    """
    check_frames(len(skeleton), temporal_factor(components.vae))
    check_speech(audio, len(skeleton), fps)
    vae: Autoencoder = components.vae
    speech = speech_features(components.speech_encoder, components.feature_extractor, audio, fps)
    conditioning = {
        "reference": encode_pixels(vae, fit_pixels(portrait[None], size)[None])[0],
        "skeleton": encode_frames_alone(vae, fit_pixels(skeleton, size)),
        "speech": speech[: len(skeleton)],
    }
    return {name: tensor.cpu() for name, tensor in conditioning.items()}


@torch.no_grad()
def encode_text(
    tokenizer: Any, text_encoder: Any, text: str | None, width: int, length: int = TEXT_LENGTH
) -> torch.Tensor:
    """A prompt -> float32 [length, D], zeros behind its last token; [1, width] zeros where there is no encoder.

    Raises:
        PrefkitError: there is a text and nothing to encode it with.
    """
    if text_encoder is None or tokenizer is None:
        if text:
            raise PrefkitError(
                f"found the text {text[:40]!r} and a backbone without a text encoder; add one, or leave texts out"
            )
        # zeros attend as one zero does, however many there are
        return torch.zeros(1, width)
    tokens = tokenizer(
        [" ".join((text or "").split())],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    mask, device = tokens.attention_mask, device_of(text_encoder)
    hidden = text_encoder(tokens.input_ids.to(device), mask.to(device)).last_hidden_state[0].float().cpu()
    return hidden * mask[0, :, None]


def check_frames(frames: int, factor: int) -> None:
    """Checks that whole latent frames come out.

    Raises:
        PrefkitError: `frames` is not factor*k + 1.
    """
    if frames < 1 or (frames - 1) % factor:
        below = max(1, (frames - 1) // factor * factor + 1)
        raise PrefkitError(
            f"the skeleton has {frames} frames; expected {factor}k + 1, so cut it to {below} or "
            f"lengthen it to {below + factor}"
        )


def check_speech(audio: np.ndarray, frames: int, fps: float) -> None:
    """Checks that there is speech for every frame.

    Raises:
        PrefkitError: the speech ends more than half a frame before the skeleton.
    """
    if (len(audio) / SAMPLE_RATE) * fps < frames - 0.5:
        raise PrefkitError(
            f"the speech lasts {len(audio) / SAMPLE_RATE:.2f} s and the skeleton {frames / fps:.2f} s "
            f"({frames} frames at {fps:g} fps); expected speech as long as the skeleton, so cut the skeleton"
        )
