import doctest
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import trainers.losses
from prefkit.errors import PrefkitError
from trainers.losses import LOSS_TYPES, prediction_errors, preference_loss, supervised_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "dpo_losses.safetensors"
# name of the case, its inputs, our beta for its beta (see the table in trainers.losses), loss type
CASES = [
    ("diffusiondpo_eps_sigmoid", "eps", 0.5, "sigmoid"),
    ("diffusers_sd_sigmoid", "eps", 1.0, "sigmoid"),
    ("diffusers_sd_hinge", "eps", 1.0, "hinge"),
    ("flowdpo_sigmoid", "flow", 0.5, "sigmoid"),
]
errors = st.floats(0.0, 2.0)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_docstring_examples() -> None:
    assert doctest.testmod(trainers.losses).failed == 0


@pytest.mark.parametrize(("case", "inputs", "factor", "loss_type"), CASES)
def test_losses_and_gradients_equal_the_published_trainers(
    case: str, inputs: str, factor: float, loss_type: str
) -> None:
    golden = load_file(GOLDEN)
    prediction = golden[f"{inputs}.model_pred"].requires_grad_()
    chosen, rejected = prediction_errors(prediction, golden[f"{inputs}.target"]).chunk(2)
    reference = prediction_errors(golden[f"{inputs}.ref_pred"], golden[f"{inputs}.target"]).chunk(2)
    beta = factor * golden[f"{case}.beta"].item()
    loss, metrics = preference_loss(chosen, rejected, *reference, beta=beta, loss_type=loss_type)
    loss.backward()
    gradient = golden[f"{case}.grad_pred"]
    torch.testing.assert_close(loss.detach(), golden[f"{case}.loss"][0], rtol=1e-4, atol=0)
    assert (prediction.grad - gradient).norm() <= 1e-4 * gradient.norm()
    assert metrics["rewards/accuracies"].item() == pytest.approx(golden[f"{case}.implicit_acc"].item())


def test_worked_examples_in_float64() -> None:
    # gains 0.3 - 0.2 = 0.1 and 0.35 - 0.4 = -0.05, so the difference is 0.15
    clips = tensor(0.2), tensor(0.4), tensor(0.3), tensor(0.35)
    loss = {name: preference_loss(*clips, beta=4.0, loss_type=name)[0].item() for name in ("sigmoid", "hinge", "ipo")}
    assert loss["sigmoid"] == pytest.approx(math.log1p(math.exp(-0.6)), abs=1e-9)
    assert loss["hinge"] == pytest.approx(0.4, abs=1e-9)
    assert loss["ipo"] == pytest.approx((0.15 - 0.125) ** 2, abs=1e-9)

    damped, _ = preference_loss(*clips, beta=4.0, rejected_weight=0.5)  # 0.1 + 0.5 * 0.05 = 0.125
    assert damped.item() == pytest.approx(math.log1p(math.exp(-0.5)), abs=1e-9)
    anchored, _ = preference_loss(*clips, beta=4.0, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 2.0])
    assert anchored.item() == pytest.approx(loss["sigmoid"] + 0.4, abs=1e-9)
    smoothed, _ = preference_loss(*clips, beta=4.0, label_smoothing=0.1)
    expected = 0.9 * math.log1p(math.exp(-0.6)) + 0.1 * math.log1p(math.exp(0.6))
    assert smoothed.item() == pytest.approx(expected, abs=1e-9)
    soft, _ = preference_loss(*clips, beta=4.0, preference=tensor(0.9))
    assert soft.item() == pytest.approx(expected, abs=1e-9)
    assert supervised_loss(tensor(0.2, 0.6), tensor(1.0, 0.5)).item() == pytest.approx(0.25, abs=1e-9)


def test_ties_and_noisy_labels_in_float64() -> None:
    clips = tensor(0.2), tensor(0.4), tensor(0.3), tensor(0.35)  # a margin of 0.6
    win, lose = math.log1p(math.exp(-0.6)), math.log1p(math.exp(0.6))
    robust, _ = preference_loss(*clips, beta=4.0, loss_type="robust", label_smoothing=0.2)
    assert robust.item() == pytest.approx((0.8 * win - 0.2 * lose) / 0.6, abs=1e-9)

    # half of all equal clips tie: nu = 2, eta = log 3
    total = 1 + 2 * math.exp(-0.3) + math.exp(-0.6)
    davidson = {"win": 1 / total, "tie": 2 * math.exp(-0.3) / total, "loss": math.exp(-0.6) / total}
    rao = {"win": 1 / (1 + 3 * math.exp(-0.6)), "loss": 1 / (1 + 3 * math.exp(0.6))}
    rao["tie"] = 1 - rao["win"] - rao["loss"]
    for name, chances in (("davidson", davidson), ("rao_kupper", rao)):
        options = {"beta": 4.0, "loss_type": name, "tie_rate": 0.5}
        certain, _ = preference_loss(*clips, **options)  # type: ignore[arg-type]
        assert certain.item() == pytest.approx(-math.log(chances["win"]), abs=1e-9)
        mixed, _ = preference_loss(*clips, **options, preference=tensor(0.7), tie_probability=tensor(0.2))  # type: ignore[arg-type]
        expected = -(0.6 * math.log(chances["win"]) + 0.2 * math.log(chances["tie"]) + 0.2 * math.log(chances["loss"]))
        assert mixed.item() == pytest.approx(expected, abs=1e-9)


def test_a_tie_pulls_the_margin_towards_zero() -> None:
    for loss_type in ("davidson", "rao_kupper"):
        for sign in (1, -1):
            chosen = tensor(0.3 - 0.1 * sign).requires_grad_()
            reference = tensor(0.3)
            loss, _ = preference_loss(
                chosen, reference, reference, reference, beta=10.0, loss_type=loss_type, tie_probability=tensor(1.0)
            )
            loss.backward()
            assert chosen.grad is not None and chosen.grad.item() * sign < 0  # descending shrinks the margin


def test_several_losses_are_added_with_their_weights() -> None:
    clips = tensor(0.2), tensor(0.4), tensor(0.3), tensor(0.35)
    both, metrics = preference_loss(*clips, beta=4.0, loss_type=["hinge", "ipo"], loss_weights=[2.0, 3.0])
    assert metrics["loss/hinge"].item() == pytest.approx(0.4, abs=1e-9)
    assert both.item() == pytest.approx(2 * 0.4 + 3 * (0.15 - 0.125) ** 2, abs=1e-9)


def test_metrics_of_a_worked_example() -> None:
    chosen, rejected = tensor(0.2, 0.3), tensor(0.4, 0.3)
    _, metrics = preference_loss(chosen, rejected, tensor(0.3, 0.3), tensor(0.35, 0.3), beta=10.0, rejected_weight=0.1)
    found = {name: value.item() for name, value in metrics.items()}
    assert found == pytest.approx(
        {
            "rewards/chosen": 0.5,
            "rewards/rejected": -0.25,
            "rewards/margins": 0.75,
            "rewards/accuracies": 0.75,  # one right, one tie
            "errors/chosen": 0.25,
            "errors/rejected": 0.35,
        }
    )


@given(errors, errors, st.floats(0.1, 5000), st.floats(0.0, 0.49))
def test_at_initialisation_the_loss_is_ln_2(chosen: float, rejected: float, beta: float, smoothing: float) -> None:
    clips = tensor(chosen), tensor(rejected)
    loss, metrics = preference_loss(*clips, *clips, beta=beta, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)
    assert metrics["rewards/accuracies"].item() == 0.5
    assert metrics["rewards/margins"].item() == 0


@given(errors, errors, errors, errors)
def test_swapping_the_clips_negates_the_margin(chosen: float, rejected: float, ref_c: float, ref_r: float) -> None:
    straight = preference_loss(tensor(chosen), tensor(rejected), tensor(ref_c), tensor(ref_r), beta=100.0)
    swapped = preference_loss(tensor(rejected), tensor(chosen), tensor(ref_r), tensor(ref_c), beta=100.0)
    assert straight[1]["rewards/margins"].item() == pytest.approx(-swapped[1]["rewards/margins"].item(), abs=1e-12)
    assert straight[1]["rewards/accuracies"].item() == 1 - swapped[1]["rewards/accuracies"].item()


@pytest.mark.parametrize("loss_type", sorted(set(LOSS_TYPES) - {"sft"}))
def test_an_undecided_label_has_no_gradient_where_policy_equals_reference(loss_type: str) -> None:
    chosen, rejected = tensor(0.3).requires_grad_(), tensor(0.7).requires_grad_()
    loss, _ = preference_loss(
        chosen, rejected, tensor(0.3), tensor(0.7), beta=50.0, loss_type=loss_type, preference=tensor(0.5)
    )
    loss.backward()
    assert chosen.grad is not None and rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(0, abs=1e-12)
    assert rejected.grad.item() == pytest.approx(0, abs=1e-12)


def test_weights_scale_pairs_and_do_not_depend_on_batching() -> None:
    clips = [torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    weight = tensor(0.5, 2.0, 1.0, 0.0, 1.5, 1.0)
    whole, _ = preference_loss(*clips, beta=10.0, weight=weight)
    halves = [
        preference_loss(*(x[part] for x in clips), beta=10.0, weight=weight[part])[0]
        for part in (slice(3), slice(3, 6))
    ]
    assert whole.item() == pytest.approx(sum(half.item() for half in halves) / 2, abs=1e-12)


def test_equal_loss_weights_change_nothing_and_zero_weights_leave_out() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(2, 3, 4, 5, 5, generator=generator) for _ in range(2))
    plain = prediction_errors(prediction, target)
    torch.testing.assert_close(prediction_errors(prediction, target, torch.full((2, 1, 1, 1, 1), 0.3)), plain)
    first_frames = torch.zeros(1, 1, 4, 1, 1)
    first_frames[:, :, :2] = 1
    torch.testing.assert_close(
        prediction_errors(prediction, target, first_frames), prediction_errors(prediction[:, :, :2], target[:, :, :2])
    )


def test_half_precision_is_averaged_in_float32() -> None:
    assert prediction_errors(torch.full((1, 4096), 1.0, dtype=torch.bfloat16), torch.zeros(1, 4096)).item() == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss_type": "sigmoyd"}, "did you mean 'sigmoid'"),
        ({"beta": 0.0}, "beta is 0"),
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ({"rejected_weight": 1.5}, "rejected_weight is 1.5"),
        ({"tie_rate": 1.0}, "tie_rate is 1"),
        ({"loss_type": ["sigmoid", "sigmoid"]}, "each once"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "expected a number from 0 for each"),
    ],
)
def test_a_wrong_option_is_a_sentence(options: dict[str, object], words: str) -> None:
    clip = tensor(0.3)
    with pytest.raises(PrefkitError, match=words):
        preference_loss(clip, clip, clip, clip, **({"beta": 1.0} | options))  # type: ignore[arg-type]
