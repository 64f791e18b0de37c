"""From noise to latents with a diffusers scheduler and classifier-free guidance (Ho & Salimans, arXiv 2207.12598)."""

from collections.abc import Callable
from typing import Any

import torch

Predict = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
AfterStep = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


def denoise(
    scheduler: Any,
    predict: Predict,
    latents: torch.Tensor,
    num_inference_steps: int,
    guidance_scale: float,
    after_step: AfterStep | None = None,
) -> torch.Tensor:
    """Runs the scheduler from noise to latents.

    Args:
        scheduler: any of diffusers'.
        predict: (noisy [B, ...], timesteps [B], with the condition or without) -> the model's prediction.
        latents: noise [B, ...], float32.
        num_inference_steps: steps.
        guidance_scale: 1 or less for no pass without the condition.
        after_step: (step, timestep, latents) -> latents to go on with.
    """
    scheduler.set_timesteps(num_inference_steps, device=latents.device)
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    for step, timestep in enumerate(scheduler.timesteps):
        batch = timestep.expand(len(latents))
        prediction = predict(latents, batch, True)
        if guidance_scale > 1:
            without = predict(latents, batch, False)
            prediction = without + guidance_scale * (prediction - without)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
        if after_step is not None:
            latents = after_step(step, timestep, latents)
    return latents


def noise_of_seeds(seeds: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal [len(seeds), *shape], float32 on the CPU: each clip's from its own seed alone."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])
