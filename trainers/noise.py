"""Noise and timesteps that depend on (seed, pair, draw) and on nothing else.

Not on the order of batches, the number of processes, or where a run was interrupted. The chosen and
the rejected clip of a pair share both.
"""

import torch

from prefkit.tables import content_id

MAX_TIMESTEP = 1000.0


def draw_noise(shape: tuple[int, ...], *, seed: int, pair_id: str, draw: int) -> torch.Tensor:
    """Standard normal noise, float32 of `shape`, on the CPU."""
    return torch.randn(shape, generator=_generator("noise", seed, pair_id, draw))


def draw_timestep(
    *, seed: int, pair_id: str, draw: int, draws: int, low: float = 0.0, high: float = MAX_TIMESTEP
) -> float:
    """A timestep in (low, high], stratified: `draws` successive draws of a pair fall one into each of `draws` bins.

    Which bin comes first differs from pair to pair; within its bin a timestep is uniform.
    """
    block, position = divmod(draw, draws)
    order = torch.randperm(draws, generator=_generator("bins", seed, pair_id, block))
    inside = torch.rand((), generator=_generator("timestep", seed, pair_id, draw), dtype=torch.float64)
    return low + (high - low) * (int(order[position]) + 1 - float(inside)) / draws


def grid_timestep(index: int, size: int, *, low: float = 0.0, high: float = MAX_TIMESTEP) -> float:
    """The middle of bin `index` of `size` bins over (low, high]."""
    return low + (high - low) * (index + 0.5) / size


def _generator(*parts: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(int(content_id(*parts), 16))
