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

Ties. Both models give P(win), P(tie) and P(loss) of the chosen clip from the margin z, with one number:
`tie_rate`, the share of ties between clips whose margin is zero (Chen et al. 2024, arXiv 2409.17431)::

    Davidson 1970          win : tie : loss = 1 : nu exp(-z/2) : exp(-z),    nu = 2 tie_rate / (1 - tie_rate)
    Rao & Kupper 1967      P(win) = sigmoid(z - eta), P(loss) = sigmoid(-z - eta),
                           eta = log((1 + tie_rate) / (1 - tie_rate))
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from prefkit.errors import PrefkitError, nearest_names


@dataclass(frozen=True)
class _Pairs:
    """What each loss sees of a batch; tensors are [B]."""

    gain: torch.Tensor  # (reference - policy error) of the chosen clip, less the (damped) one of the rejected
    chosen_errors: torch.Tensor
    decided: torch.Tensor  # P(chosen better) where it was no tie
    ties: torch.Tensor  # P(tie)
    beta: float
    label_smoothing: float
    tie_rate: float

    @property
    def preference(self) -> torch.Tensor:
        """P(chosen better), a tie counted half."""
        return self.decided * (1 - self.ties) + self.ties / 2


def _flipped(probability: torch.Tensor, share: float) -> torch.Tensor:
    """The probability once this share of labels is flipped."""
    return probability * (1 - share) + (1 - probability) * share


def _expected(
    probability: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor], gain: torch.Tensor
) -> torch.Tensor:
    """The loss of "chosen is better", expected over which clip is; that of the opposite is loss(-gain)."""
    return probability * loss(gain) + (1 - probability) * loss(-gain)


def _sigmoid(pairs: _Pairs) -> torch.Tensor:
    label = _flipped(pairs.preference, pairs.label_smoothing)
    return _expected(label, lambda gain: -functional.logsigmoid(pairs.beta * gain), pairs.gain)


def _hinge(pairs: _Pairs) -> torch.Tensor:
    label = _flipped(pairs.preference, pairs.label_smoothing)
    return _expected(label, lambda gain: torch.relu(1 - pairs.beta * gain), pairs.gain)


def _ipo(pairs: _Pairs) -> torch.Tensor:
    label = _flipped(pairs.preference, pairs.label_smoothing)
    return _expected(label, lambda gain: (gain - 1 / (2 * pairs.beta)) ** 2, pairs.gain)


def _robust(pairs: _Pairs) -> torch.Tensor:
    # the label that, flipped, is the one at hand; outside 0 to 1 it still makes the loss unbiased
    label = (pairs.preference - pairs.label_smoothing) / (1 - 2 * pairs.label_smoothing)
    return _expected(label, lambda gain: -functional.logsigmoid(pairs.beta * gain), pairs.gain)


def _davidson(pairs: _Pairs) -> torch.Tensor:
    margin = pairs.beta * pairs.gain
    tie = math.log(2 * pairs.tie_rate / (1 - pairs.tie_rate)) - margin / 2
    log_odds = torch.stack((torch.zeros_like(margin), tie, -margin))
    return _cross_entropy(pairs, log_odds - log_odds.logsumexp(0))


def _rao_kupper(pairs: _Pairs) -> torch.Tensor:
    margin = pairs.beta * pairs.gain
    threshold = math.log((1 + pairs.tie_rate) / (1 - pairs.tie_rate))
    win, loss = functional.logsigmoid(margin - threshold), functional.logsigmoid(-margin - threshold)
    return _cross_entropy(pairs, torch.stack((win, math.log(math.expm1(2 * threshold)) + win + loss, loss)))


def _cross_entropy(pairs: _Pairs, log_probabilities: torch.Tensor) -> torch.Tensor:
    win = _flipped(pairs.decided, pairs.label_smoothing)
    labels = torch.stack(((1 - pairs.ties) * win, pairs.ties, (1 - pairs.ties) * (1 - win)))
    return -(labels * log_probabilities).sum(0)


def _sft(pairs: _Pairs) -> torch.Tensor:
    return pairs.chosen_errors


LOSS_TYPES: dict[str, Callable[[_Pairs], torch.Tensor]] = {
    "sigmoid": _sigmoid,  # Diffusion-DPO; with label smoothing cDPO (Mitchell 2023)
    "hinge": _hinge,  # SLiC (arXiv 2305.10425), as in the diffusers example
    "ipo": _ipo,  # Azar et al. 2023 (arXiv 2310.12036), eq. 17, with tau = beta
    "robust": _robust,  # rDPO (arXiv 2403.00409): unbiased where label_smoothing is the share of flipped labels
    "davidson": _davidson,  # ties, see above
    "rao_kupper": _rao_kupper,  # ties, see above
    "sft": _sft,  # the chosen clip's own error: an anchor (Reg-DPO, arXiv 2511.01450)
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
    loss_type: str | Sequence[str] = "sigmoid",
    loss_weights: Sequence[float] | None = None,
    preference: torch.Tensor | None = None,
    tie_probability: torch.Tensor | None = None,
    tie_rate: float = 1 / 3,
    label_smoothing: float = 0.0,
    weight: torch.Tensor | None = None,
    rejected_weight: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch of pairs, and what to log about it.

    Args:
        chosen_errors: the policy's errors on the chosen clips, [B] (`prediction_errors`).
        rejected_errors: the policy's errors on the rejected clips, [B].
        reference_chosen_errors: the reference's errors at the same noise and timesteps, [B].
        reference_rejected_errors: likewise.
        beta: see the table above.
        loss_type: one of `LOSS_TYPES`, or several whose weighted sum is taken.
        loss_weights: one number per loss type, 1 each by default. The gradient of a pair's sigmoid loss
            is beta / 2 at initialisation, so an "sft" of the order of beta / 10 is felt.
        preference: P(chosen better) in [0, 1], ties counted half, [B]; absent means 1. The loss is the
            expectation over which clip is better, so ½ has no gradient where policy and reference agree.
        tie_probability: P(tie) in [0, 1], [B]; absent means 0. With it and no `preference`, chosen wins
            wherever it is no tie.
        tie_rate: share of ties between equal clips, in (0, 1), of the two losses that know ties.
        label_smoothing: share of labels taken to be flipped, in [0, ½): "robust" corrects for it, the
            others mix it into the label.
        weight: of each pair, [B]. The loss is the mean of weight * loss and not divided by the sum of
            the weights, so that it does not depend on how pairs are batched; give weights of mean 1.
        rejected_weight: α in [0, 1], damps the rejected clip's reward in the loss: keeps the policy from
            lowering the loss by growing worse on both clips.

    Returns:
        The loss (a scalar with gradient) and detached scalars by TRL's names: ``rewards/chosen``,
        ``rewards/rejected``, ``rewards/margins``, ``rewards/accuracies``, ``errors/chosen``,
        ``errors/rejected``, and each loss by itself as ``loss/<type>`` where there are several. Rewards
        are undamped.

    Raises:
        PrefkitError: a loss type is unknown, or a number is outside its range.

    >>> chosen, rejected, reference = torch.tensor([0.2]), torch.tensor([0.4]), torch.tensor([0.3])
    >>> loss, metrics = preference_loss(chosen, rejected, reference, reference, beta=10.0)
    >>> print(f"{loss:.6f} {metrics['rewards/margins']:.3f} {metrics['rewards/accuracies']:.1f}")
    0.126928 2.000 1.0

    An anchor on the chosen clip adds 5 * 0.2:

    >>> anchored = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 5.0]}
    >>> loss, metrics = preference_loss(chosen, rejected, reference, reference, beta=10.0, **anchored)
    >>> print(f"{loss:.6f} {metrics['loss/sigmoid']:.6f} {metrics['loss/sft']:.1f}")
    1.126928 0.126928 0.2

    Where 1 label in 10 is wrong, "robust" is [0.9 l(2) - 0.1 l(-2)] / 0.8 with l(z) = log(1 + exp(-z)):

    >>> clips = chosen, rejected, reference, reference
    >>> print(f"{preference_loss(*clips, beta=10.0, loss_type='robust', label_smoothing=0.1)[0]:.6f}")
    -0.123072

    A certain tie costs less where the margin is zero; with a tie rate of 1/3 it is -log(1/3) there:

    >>> tie = {"loss_type": "davidson", "tie_probability": torch.ones(1)}
    >>> print(f"{preference_loss(*clips, beta=10.0, **tie)[0]:.6f}")
    1.407606
    >>> print(f"{preference_loss(reference, reference, reference, reference, beta=10.0, **tie)[0]:.6f}")
    1.098612
    """
    names, factors = loss_terms(loss_type, loss_weights)
    check_options(beta, label_smoothing, rejected_weight, tie_rate)
    gain = (reference_chosen_errors - chosen_errors) - rejected_weight * (reference_rejected_errors - rejected_errors)
    ties = torch.zeros_like(gain) if tie_probability is None else tie_probability.to(gain)
    pairs = _Pairs(
        gain=gain,
        chosen_errors=chosen_errors,
        decided=torch.ones_like(gain) if preference is None else _decided(preference.to(gain), ties),
        ties=ties,
        beta=beta,
        label_smoothing=label_smoothing,
        tie_rate=tie_rate,
    )
    terms = {name: LOSS_TYPES[name](pairs) for name in names}
    loss = sum(factor * terms[name] for name, factor in zip(names, factors, strict=True))
    metrics = reward_metrics(
        chosen_errors, rejected_errors, reference_chosen_errors, reference_rejected_errors, beta=beta
    )
    if len(names) > 1:
        metrics |= {f"loss/{name}": terms[name].detach().mean() for name in names}
    return _weighted_mean(torch.as_tensor(loss), weight), metrics


def _decided(preference: torch.Tensor, ties: torch.Tensor) -> torch.Tensor:
    """P(chosen better | no tie) of P(chosen better) with ties counted half; ½ where a tie is certain."""
    left = 1 - ties
    return torch.where(left > 0, (preference - ties / 2) / left.clamp(min=1e-12), 0.5).clamp(0, 1)


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


def loss_terms(
    loss_type: str | Sequence[str], loss_weights: Sequence[float] | None
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names and weights of the losses that are added up.

    Raises:
        PrefkitError: a name is unknown or given twice, there is none, or the weights do not fit.

    >>> loss_terms(["sigmoid", "sft"], [1.0, 20.0])
    (('sigmoid', 'sft'), (1.0, 20.0))
    """
    names = (loss_type,) if isinstance(loss_type, str) else tuple(loss_type)
    for name in names:
        if name not in LOSS_TYPES:
            raise PrefkitError(f"there is no loss type {name!r}{nearest_names(name, LOSS_TYPES)}")
    if not names or len(set(names)) < len(names):
        raise PrefkitError(f"loss_type is {list(names)}; expected one or more names, each once")
    factors = (1.0,) * len(names) if loss_weights is None else tuple(float(number) for number in loss_weights)
    if len(factors) != len(names) or min(factors) < 0:
        raise PrefkitError(
            f"loss_weights is {list(factors)} for the losses {', '.join(names)}; expected a number from 0 for each"
        )
    return names, factors


def check_options(beta: float, label_smoothing: float, rejected_weight: float, tie_rate: float) -> None:
    """Raises PrefkitError where a number of `preference_loss` is outside its range."""
    if beta <= 0:
        raise PrefkitError(f"beta is {beta}; expected a number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise PrefkitError(f"label_smoothing is {label_smoothing}; expected a share from 0 to below 0.5")
    if not 0 <= rejected_weight <= 1:
        raise PrefkitError(f"rejected_weight is {rejected_weight}; expected a number from 0 to 1")
    if not 0 < tie_rate < 1:
        raise PrefkitError(f"tie_rate is {tie_rate}; expected a share between 0 and 1")
