"""Pictures of any size to the model's: scaled to its height, padded with black or cropped at the sides, as Hallo4."""

import numpy as np
import torch
import torch.nn.functional as F

FRAMES_AT_A_TIME = 16


def fit_pixels(frames: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> float32 pixels [3, T, *size] in −1…1."""
    height, width = size
    scaled = round(frames.shape[2] * height / frames.shape[1])
    parts = []
    for start in range(0, len(frames), FRAMES_AT_A_TIME):
        part = torch.tensor(frames[start : start + FRAMES_AT_A_TIME]).permute(0, 3, 1, 2).float() / 127.5 - 1
        if part.shape[2:] != (height, scaled):
            part = F.interpolate(part, size=(height, scaled), mode="bilinear", antialias=True)
        parts.append(_to_width(part, width))
    return torch.cat(parts).transpose(0, 1).contiguous()


def content_columns(shape: tuple[int, ...], size: tuple[int, int]) -> slice:
    """Where a picture [H, W, …] lies across frames of `size`: between the black bars, if there are any."""
    height, width = size
    scaled = min(width, round(shape[1] * height / shape[0]))
    left = (width - scaled) // 2
    return slice(left, left + scaled)


def _to_width(pixels: torch.Tensor, width: int) -> torch.Tensor:
    lacking = width - pixels.shape[-1]
    if lacking >= 0:
        return F.pad(pixels, (lacking // 2, lacking - lacking // 2), value=-1.0)
    left = -lacking // 2
    return pixels[..., left : left + width]
