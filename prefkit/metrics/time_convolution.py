"""A convolution over five frames for four windows at once, with 8 products where there would be 20.

Windows one frame apart see the same frames, each through another of the kernel's five slices in time. Such
a sliding product is a short convolution, for which Toom and Cook's algorithm (as in Winograd 1980, "Arithmetic
complexity of computations"; Lavin & Gray 2016 use it in space) interpolates a polynomial: 8 combinations of
frames, each convolved in space with a combination of slices, combined again give the 4 windows. Results
equal the direct ones to about 2e-6 of the largest.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOWS = 4
SLICES = 5  # of the kernel in time
FRAMES = WINDOWS + SLICES - 1
# Near one another in size, so that their powers stay near one; the last point is infinity.
POINTS = np.array([0, 1, -1, 1.5, -1.5, 0.6, -0.6])
ONE = 1


def interpolation() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of the algorithm: windows [4, 8] from products, products [8, 5] from slices, and [8, 8] from frames."""
    windows, slices, all_powers = (_powers(count) for count in (WINDOWS, SLICES, FRAMES))
    frames = np.linalg.inv(all_powers).T
    size = np.abs(frames).sum(axis=1, keepdims=True)  # so that single precision is used alike by all products
    return windows.T, slices * size, frames / size


def _powers(count: int) -> np.ndarray:
    at_infinity = np.zeros((1, count))
    at_infinity[0, -1] = 1
    return np.concatenate([POINTS[:, None] ** np.arange(count), at_infinity])


class TimeConvolution(nn.Module):
    """Does to eight frames what a Conv3d with a kernel of five frames does to the four windows in them."""

    windows: Tensor
    frames: Tensor
    kernels: Tensor
    bias: Tensor | None

    def __init__(self, convolution: nn.Conv3d):
        """Takes over the weights of a convolution without padding; its stride in time is one."""
        super().__init__()
        if convolution.kernel_size[0] != SLICES or any(convolution.padding):  # type: ignore[arg-type]
            raise ValueError(
                f"the convolution has kernel {convolution.kernel_size}; expected {SLICES} frames, no padding"
            )
        windows, slices, frames = interpolation()
        kernels = torch.einsum("pt,octhw->pochw", torch.from_numpy(slices), convolution.weight.detach().double())
        self.register_buffer("windows", torch.from_numpy(windows).float())
        self.register_buffer("frames", torch.from_numpy(frames).float())
        self.register_buffer("kernels", kernels.float())
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach())
        self.stride = convolution.stride[1:]
        self._products = torch.empty(0)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [8, C, H, W] -> [4, O, h, w], channels last in memory."""
        combined = (self.frames @ frames.flatten(1)).view_as(frames)
        for index, (picture, kernel) in enumerate(zip(combined, self.kernels, strict=True)):
            found = functional.conv2d(
                picture[None].contiguous(memory_format=torch.channels_last),
                kernel.contiguous(memory_format=torch.channels_last),
                # the product at the point 1 is part of every window, once
                self.bias if index == ONE else None,
                self.stride,
            )[0].permute(1, 2, 0)
            if self._products.shape[1:] != found.shape:
                # kept: memory that is new to the process at every call would cost as much as the products
                self._products = torch.empty(FRAMES, *found.shape)
            self._products[index] = found
        return (self.windows @ self._products.flatten(1)).view(WINDOWS, *found.shape).permute(0, 3, 1, 2)
