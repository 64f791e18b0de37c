"""What is reported about held-out pairs: pure arithmetic on errors of policy and reference."""

from collections.abc import Sequence

import torch

from trainers.losses import implicit_accuracy, reward_metrics


def held_out_metrics(
    errors: torch.Tensor,
    places: torch.Tensor,
    timesteps: Sequence[float],
    beta: float,
    criteria: Sequence[str] = (),
    norms: torch.Tensor | None = None,
) -> dict[str, float]:
    """Metrics of held-out pairs on a grid of fixed noise and timesteps.

    Args:
        errors: [N, 4]: policy on chosen, policy on rejected, reference on chosen, reference on rejected.
        places: [N]: pair * number of timesteps + timestep.
        timesteps: those of the grid.
        beta: as in `preference_loss`.
        criteria: of each pair of the grid.
        norms: [N, 4]: root mean squares of the predictions, in the order of `errors`.

    Returns:
        The means of `reward_metrics`; ``implicit_accuracy``: the share of pairs whose margin, averaged
        over the grid, is positive (ties ½); ``accuracies/t<timestep>`` at each timestep apart;
        ``accuracies/<criterion>`` where there are several criteria; ``norm_drift``: how many times as
        large the policy's predictions are as the reference's.
    """
    metrics = reward_metrics(*errors.unbind(1), beta=beta)
    margins = (errors[:, 2] - errors[:, 0]) - (errors[:, 3] - errors[:, 1])
    pairs, bins = places // len(timesteps), places % len(timesteps)
    by_pair = torch.zeros(int(pairs.max()) + 1, dtype=errors.dtype).index_add_(0, pairs, margins)
    metrics["implicit_accuracy"] = implicit_accuracy(by_pair)
    for index, timestep in enumerate(timesteps):
        metrics[f"accuracies/t{timestep:.0f}"] = implicit_accuracy(margins[bins == index])
    if len(set(criteria)) > 1:
        for criterion in sorted(set(criteria)):
            of_it = torch.tensor([one == criterion for one in criteria])
            metrics[f"accuracies/{criterion}"] = implicit_accuracy(by_pair[of_it[: len(by_pair)]])
    if norms is not None:
        metrics["norm_drift"] = norms[:, :2].square().mean().sqrt() / norms[:, 2:].square().mean().sqrt()
    return {name: float(value) for name, value in metrics.items()}
