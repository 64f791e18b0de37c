"""A small network that reads 68 landmarks from frames of synthetic portraits.

It knows nothing but the portraits of `prefkit.synthetic` and what imperfect models make of them; its
landmarks of a real face are meaningless, so metrics apply it to synthetic conditions only.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from prefkit.errors import PrefkitError
from prefkit.metrics.weights import read_weights


@dataclass(frozen=True)
class LandmarkNetworkConfig:
    """Sizes of a `LandmarkNetwork`.

    Attributes:
        frame_size: side in pixels of the square frames it reads.
        widths: channels at a half, a quarter, an eighth and a sixteenth of the frame's size.
        points: number of landmarks.
        variant: what the weights are for; it goes into every score's details.
    """

    frame_size: int = 64
    widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    points: int = 68
    variant: str = "synthetic-portraits"


class LandmarkNetwork(nn.Module):
    """One heatmap a landmark at a quarter of the frame's size; the mean of a heatmap is the landmark.

    The mean keeps fractions of a pixel and is differentiable (Luvizon et al. 2017, soft-argmax). Heatmaps
    see fine detail through a skip connection and the whole face through a branch at a sixteenth of the size.
    """

    def __init__(self, config: LandmarkNetworkConfig | None = None):
        """Makes an untrained network."""
        super().__init__()
        self.config = config = config or LandmarkNetworkConfig()
        half, quarter, eighth, sixteenth = config.widths
        self.fine = nn.Sequential(*_convolution(3, half, 5, 2), *_convolution(half, quarter, 3, 2))
        self.coarse = nn.Sequential(
            *_convolution(quarter, eighth, 3, 2),
            *_convolution(eighth, eighth, 3, 1),
            *_convolution(eighth, sixteenth, 3, 2),
            *_convolution(sixteenth, sixteenth, 3, 1),
            *_convolution(sixteenth, quarter, 1, 1),
        )
        self.mix = nn.Sequential(*_convolution(quarter, quarter, 3, 1), *_convolution(quarter, eighth, 3, 1))
        self.heatmaps = nn.Conv2d(eighth, config.points, 1)
        side = config.frame_size // 4
        grid = (torch.arange(side) + 0.5) / side
        self.register_buffer("grid_x", grid.repeat(side, 1).flatten(), persistent=False)
        self.register_buffer("grid_y", grid.repeat(side, 1).T.flatten(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """RGB frames [B, 3, S, S] in -1..1 -> landmarks [B, points, 2], x and y in 0..1 of the frame."""
        fine = self.fine(frames)
        coarse = functional.interpolate(self.coarse(fine), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        weights = self.heatmaps(self.mix(fine + coarse)).flatten(2).softmax(dim=-1)
        return torch.stack([weights @ self.grid_x, weights @ self.grid_y], dim=-1)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def load_landmark_network(path: Path) -> LandmarkNetwork:
    """Loads weights with their config from safetensors.

    Raises:
        PrefkitError: there is no such file or it holds another network.
    """
    config, state = read_weights(path)
    try:
        network = LandmarkNetwork(LandmarkNetworkConfig(**config))
        network.load_state_dict(state)
    except (RuntimeError, TypeError):
        raise PrefkitError(f"{path} holds another network; expected weights of prefkit's landmark network") from None
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


@torch.inference_mode()
def predict_landmarks(frames: np.ndarray, network: LandmarkNetwork, batch_size: int = 32) -> np.ndarray:
    """Reads landmarks from frames.

    Args:
        frames: uint8 [T, S, S, 3] RGB, S as the network's config says.
        network: the network.
        batch_size: frames at a time.

    Returns:
        float64 [T, 68, 2], x and y in pixels, iBUG order.

    Raises:
        PrefkitError: frames of another size.
    """
    size = network.config.frame_size
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (size, size, 3):
        raise PrefkitError(
            f"the landmark network got {frames.dtype} {list(frames.shape)} and reads uint8 [T, {size}, {size}, 3]"
        )
    found = [
        network(as_input(torch.from_numpy(batch))) for batch in np.array_split(frames, -(-len(frames) // batch_size))
    ]
    return torch.cat(found).double().numpy() * size


def as_input(frames: Tensor) -> Tensor:
    """Turns uint8 frames [B, S, S, 3] into float32 [B, 3, S, S] in -1..1, channels last in memory."""
    return (frames.float() / 127.5 - 1).permute(0, 3, 1, 2)
