"""Both backbones learn, and follow what they learned; benchmarks/train_backbones.py has the numbers on portraits."""

import torch

from prefkit.backbones.contract import stack_conditioning


def test_training_lowers_the_loss_and_the_motion_comes_to_count(backbone, condition):
    conditioning = stack_conditioning(
        [
            backbone.encode_condition(**condition),
            backbone.encode_condition(
                portrait=condition["portrait"], audio=condition["audio"] // 4, skeleton=condition["skeleton"] // 3
            ),
        ]
    )
    generator = torch.Generator().manual_seed(0)
    shape = backbone.encode_clip(condition["skeleton"]).shape
    clips = torch.randn(2, *shape, generator=generator)  # nothing but the condition tells which of the two it is
    noise = torch.randn(2, *shape, generator=generator)
    timesteps = torch.tensor([900.0, 900.0])
    noisy = backbone.add_noise(clips, noise, timesteps)
    target = backbone.target(clips, noise, timesteps)
    optimiser = torch.optim.Adam(backbone.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = (backbone.predict(noisy, timesteps, conditioning) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
    with torch.no_grad():
        trained = backbone.predict(noisy, timesteps, conditioning)
        for name in ("skeleton", "speech"):
            without = backbone.predict(noisy, timesteps, conditioning | {name: torch.zeros_like(conditioning[name])})
            assert (without - trained).abs().max() > 1e-3, name
