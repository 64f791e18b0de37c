"""Diffusion-DPO losses: pure functions on tensors.

Per clip the model's error is the mean squared error of its prediction; a preference compares how much
the policy improved on a frozen reference for the chosen and for the rejected clip::

    reward(clip) = beta * (reference error - policy error)
    margin       = reward(chosen) - reward(rejected)
    loss         = -log sigmoid(margin)             Wallace et al. 2023 (arXiv 2311.12908), eq. 14

`beta` is the factor in front of errors that are **means** over all dimensions of a clip. The published
trainers write the same loss with other factors:

========================================  =====================================  =================
trainer                                   its setting                            the same `beta`
========================================  =====================================  =================
DiffusionDPO (Salesforce)                 ``beta_dpo`` 5000, factor 0.5          2500
diffusers research example, SDXL          ``beta_dpo`` 5000, factor 0.5          2500
diffusers research example, SD            ``beta_dpo`` 2500, no factor           2500
RealDPO                                   5000, factor 0.5, errors in x0 space   2500 (x0 errors)
Flow-DPO (flow_grpo, VideoAlign)          ``beta`` 100, factor 0.5               50
LongCat-Image                             ``beta`` 2000, no factor               2000
SimpleTuner ``flow_dpo``                  b, factor 0.5, **sum** over a clip's   0.5 * b * n
                                          n elements
TRL ``DPOConfig`` (language)              ``beta`` on log-likelihoods            beta
========================================  =====================================  =================

Errors of a flow model are larger than those of the same model written as noise prediction, since with
x_t = (1 - s) x0 + s e the identity |e - e'|^2 = (1 - s)^2 |v - v'|^2 holds: a `beta` tuned on noise
prediction corresponds to beta * (1 - s)^2 on velocities.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from prefkit.errors import PrefkitError, nearest_names


def _sigmoid(difference: torch.Tensor, beta: float) -> torch.Tensor:
    return -functional.logsigmoid(beta * difference)


def _hinge(difference: torch.Tensor, beta: float) -> torch.Tensor:
    return torch.relu(1 - beta * difference)


def _ipo(difference: torch.Tensor, beta: float) -> torch.Tensor:
    return (difference - 1 / (2 * beta)) ** 2


# Each is the loss of "chosen is better"; the loss of the opposite is the same function of the negative.
LOSS_TYPES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "sigmoid": _sigmoid,  # Diffusion-DPO
    "hinge": _hinge,  # SLiC (arXiv 2305.10425), as in the diffusers example
    "ipo": _ipo,  # Azar et al. 2023 (arXiv 2310.12036), eq. 17, with tau = beta
}


def prediction_errors(
    prediction: torch.Tensor, target: torch.Tensor, loss_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error of each clip, over all its dimensions.

    Args:
        prediction: what the model returned, [B, ...].
        target: what it should have returned, [B, ...].
        loss_weights: non-negative weights that broadcast to [B, ...]; the error is then their weighted
            mean, so weights that are equal everywhere change nothing.

    Returns:
        [B], in float32 or, if the inputs are, in float64.

    >>> prediction_errors(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))
    tensor([5.])
    >>> prediction_errors(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]))
    tensor([3.])
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    squared = (prediction.to(dtype) - target.to(dtype)).square().flatten(1)
    if loss_weights is None:
        return squared.mean(1)
    weights = loss_weights.to(dtype).expand(prediction.shape).flatten(1)
    return (squared * weights).sum(1) / weights.sum(1)


def implicit_accuracy(margins: torch.Tensor) -> torch.Tensor:
    """Share of positive margins, a margin of exactly zero counted half.

    >>> implicit_accuracy(torch.tensor([1.0, 0.0, -2.0, 3.0]))
    tensor(0.6250)
    """
    return ((margins.sign() + 1) / 2).mean()


def preference_loss(
    chosen_errors: torch.Tensor,
    rejected_errors: torch.Tensor,
    reference_chosen_errors: torch.Tensor,
    reference_rejected_errors: torch.Tensor,
    *,
    beta: float,
    loss_type: str = "sigmoid",
    preference: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    weight: torch.Tensor | None = None,
    rejected_weight: float = 1.0,
    sft_weight: float = 0.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch of pairs, and what to log about it.

    Args:
        chosen_errors: the policy's errors on the chosen clips, [B] (`prediction_errors`).
        rejected_errors: the policy's errors on the rejected clips, [B].
        reference_chosen_errors: the reference's errors at the same noise and timesteps, [B].
        reference_rejected_errors: likewise.
        beta: see the table above.
        loss_type: one of `LOSS_TYPES`.
        preference: P(chosen better) in [0, 1], [B]; absent means 1. The loss is the expectation over
            which clip is better, so ½ has no gradient where policy and reference agree.
        label_smoothing: share of labels taken to be flipped, in [0, ½) (cDPO, Mitchell 2023).
        weight: of each pair, [B]. The loss is the mean of weight * loss and not divided by the sum of
            the weights, so that it does not depend on how pairs are batched; give weights of mean 1.
        rejected_weight: α in [0, 1], damps the rejected clip's reward in the loss: keeps the policy from
            lowering the loss by growing worse on both clips.
        sft_weight: λ; adds λ * weight * chosen error, an anchor on the chosen clip (Reg-DPO,
            arXiv 2511.01450). The pair term's gradient is beta / 2 at initialisation: a λ of the order
            of beta / 10 is felt.

    Returns:
        The loss (a scalar with gradient) and detached scalars by TRL's names: ``rewards/chosen``,
        ``rewards/rejected``, ``rewards/margins``, ``rewards/accuracies``, ``errors/chosen``,
        ``errors/rejected``. Rewards are undamped.

    Raises:
        PrefkitError: the loss type is unknown, or a number is outside its range.

    >>> chosen, rejected, reference = torch.tensor([0.2]), torch.tensor([0.4]), torch.tensor([0.3])
    >>> loss, metrics = preference_loss(chosen, rejected, reference, reference, beta=10.0)
    >>> print(f"{loss:.6f} {metrics['rewards/margins']:.3f} {metrics['rewards/accuracies']:.1f}")
    0.126928 2.000 1.0
    """
    check_options(beta, loss_type, label_smoothing, rejected_weight, sft_weight)
    chosen_gain = reference_chosen_errors - chosen_errors
    rejected_gain = reference_rejected_errors - rejected_errors
    difference = chosen_gain - rejected_weight * rejected_gain

    probability = torch.ones_like(difference) if preference is None else preference.to(difference)
    probability = probability * (1 - label_smoothing) + (1 - probability) * label_smoothing
    one_sided = LOSS_TYPES[loss_type]
    losses = probability * one_sided(difference, beta) + (1 - probability) * one_sided(-difference, beta)
    if sft_weight:
        losses = losses + sft_weight * chosen_errors
    metrics = reward_metrics(
        chosen_errors, rejected_errors, reference_chosen_errors, reference_rejected_errors, beta=beta
    )
    return _weighted_mean(losses, weight), metrics


def supervised_loss(chosen_errors: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Supervised fine-tuning on the chosen clips alone: the mean of weight * error.

    >>> supervised_loss(torch.tensor([0.2, 0.4]), torch.tensor([0.5, 1.5]))
    tensor(0.3500)
    """
    return _weighted_mean(chosen_errors, weight)


@torch.no_grad()
def reward_metrics(
    chosen_errors: torch.Tensor,
    rejected_errors: torch.Tensor,
    reference_chosen_errors: torch.Tensor,
    reference_rejected_errors: torch.Tensor,
    *,
    beta: float,
) -> dict[str, torch.Tensor]:
    """Means over a batch of implicit rewards and errors, by TRL's names; all inputs are [B]."""
    chosen = beta * (reference_chosen_errors - chosen_errors)
    rejected = beta * (reference_rejected_errors - rejected_errors)
    return {
        "rewards/chosen": chosen.mean(),
        "rewards/rejected": rejected.mean(),
        "rewards/margins": (chosen - rejected).mean(),
        "rewards/accuracies": implicit_accuracy(chosen - rejected),
        "errors/chosen": chosen_errors.mean(),
        "errors/rejected": rejected_errors.mean(),
    }


def _weighted_mean(losses: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return losses.mean() if weight is None else (weight.to(losses) * losses).mean()


def check_options(
    beta: float, loss_type: str, label_smoothing: float, rejected_weight: float, sft_weight: float
) -> None:
    """Raises PrefkitError where an option of `preference_loss` is unknown or outside its range."""
    if loss_type not in LOSS_TYPES:
        raise PrefkitError(f"there is no loss type {loss_type!r}{nearest_names(loss_type, LOSS_TYPES)}")
    if beta <= 0:
        raise PrefkitError(f"beta is {beta}; expected a number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise PrefkitError(f"label_smoothing is {label_smoothing}; expected a share from 0 to below 0.5")
    if not 0 <= rejected_weight <= 1:
        raise PrefkitError(f"rejected_weight is {rejected_weight}; expected a number from 0 to 1")
    if sft_weight < 0:
        raise PrefkitError(f"sft_weight is {sft_weight}; expected 0 or more")
