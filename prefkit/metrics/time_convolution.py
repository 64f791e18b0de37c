"""A convolution over five frames for eight windows at once, with 12 products where there would be 40.

Windows one frame apart see the same frames, each through another of the kernel's five slices in time. Such
a sliding product is a short convolution, for which Toom and Cook's algorithm (as in Winograd 1980, "Arithmetic
complexity of computations"; Lavin & Gray 2016 use it in space) interpolates a polynomial: 12 combinations of
frames, each convolved in space with a combination of slices, combined again give the 8 windows. Results
equal the direct ones to about 1e-5 of the largest.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOWS = 8
SLICES = 5  # of the kernel in time
FRAMES = WINDOWS + SLICES - 1
# Of those tried the ones that lose least in single precision; the last point is infinity.
POINTS = np.array([0, 1, -1, 0.4, -0.4, 0.7, -0.7, 4 / 3, -4 / 3, 2, -2])
ONE = 1


def interpolation() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of the algorithm: windows [8, 12] from products, products [12, 5] from slices, [12, 12] from frames."""
    windows, slices, all_powers = (_powers(count) for count in (WINDOWS, SLICES, FRAMES))
    frames = np.linalg.inv(all_powers).T
    size = np.abs(frames).sum(axis=1, keepdims=True)  # so that single precision is used alike by all products
    return windows.T, slices * size, frames / size


def _powers(count: int) -> np.ndarray:
    at_infinity = np.zeros((1, count))
    at_infinity[0, -1] = 1
    return np.concatenate([POINTS[:, None] ** np.arange(count), at_infinity])


class TimeConvolution(nn.Module):
    """Does to twelve frames what a Conv3d with a kernel of five frames does to the eight windows in them."""

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
        self.register_buffer("kernels", kernels.float().permute(0, 1, 3, 4, 2).contiguous())  # channels last
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach())
        self.stride = convolution.stride[1:]
        # kept: memory that is new to the process at every call would cost as much as the products
        self._products, self._found = torch.empty(0), torch.empty(0)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [12, C, H, W] -> [8, O, h, w], channels last in memory, which the next call uses again."""
        combined = (self.frames @ frames.flatten(1)).view_as(frames).contiguous(memory_format=torch.channels_last)
        for index, kernel in enumerate(self.kernels.permute(0, 1, 4, 2, 3)):
            # the product at the point 1 is part of every window, once
            bias = self.bias if index == ONE else None
            found = functional.conv2d(combined[index : index + 1], kernel, bias, self.stride)[0].permute(1, 2, 0)
            if self._products.shape[1:] != found.shape:
                self._products = torch.empty(FRAMES, *found.shape)
                self._found = torch.empty(WINDOWS, *found.shape)
            self._products[index] = found
        torch.matmul(self.windows, self._products.flatten(1), out=self._found.view(WINDOWS, -1))
        return self._found.permute(0, 3, 1, 2)
