"""wav2vec2's hidden states at the video's frame rate.

Source: Hallo (arXiv 2406.08801) and Hallo4: the convolutional features are interpolated to the video's frames
before the transformer layers, and all layers are kept.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

# diffusers' loader looks for PreTrainedModel in a component's own module to know how to load it
from transformers import PreTrainedModel as PreTrainedModel
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from prefkit.backbones.audio_features import SAMPLE_RATE
from prefkit.backbones.latents import device_of


class VideoRateWav2Vec2Model(Wav2Vec2Model):
    """wav2vec2 with one feature a video frame. `from_pretrained` takes any wav2vec2 checkpoint."""

    def forward(self, input_values: torch.Tensor, num_frames: int) -> torch.Tensor:  # type: ignore[override]
        """What every layer says of every frame.

        Args:
            input_values: [B, N], 16 kHz, as the feature extractor normalises them.
            num_frames: video frames T that the sound lasts.

        Returns:
            [B, T, layers, channels].
        """
        features = self.feature_extractor(input_values)
        features = F.interpolate(features, size=num_frames, mode="linear", align_corners=True).transpose(1, 2)
        hidden, _ = self.feature_projection(features)
        states: list[torch.Tensor] = []
        hooks = [layer.register_forward_hook(lambda *call: states.append(_tensor(call[2]))) for layer in self._layers]
        try:
            self.encoder(hidden)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(states, dim=2)

    @property
    def _layers(self) -> Any:
        return self.encoder.layers


@torch.no_grad()
def speech_features(
    encoder: VideoRateWav2Vec2Model,
    extractor: Wav2Vec2FeatureExtractor,
    audio: np.ndarray,
    fps: float,
) -> torch.Tensor:
    """Speech as the denoiser sees it, but for the windows.

    Args:
        encoder: wav2vec2.
        extractor: its normalisation.
        audio: int16 [N], mono, 16 kHz.
        fps: frame rate of the video.

    Returns:
        float32 [T, layers, channels], T = N · fps / 16000 rounded up.
    """
    frames = math.ceil(round(len(audio) / SAMPLE_RATE * fps, 6))
    sound = audio.astype(np.float32) / 32768
    values = extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
    return encoder(values.to(device_of(encoder), encoder.dtype), num_frames=frames)[0].float()


def _tensor(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output
