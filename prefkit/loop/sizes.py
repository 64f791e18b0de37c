"""How much of everything the whole loop makes on synthetic portraits, and what suits the tiny model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Conditions of this split are never asked about and never trained on.
HELD_OUT = "evaluate"
# The loss in each measure's unit that tuning may cost and still count as not inferior: about a quarter of
# the measure's standard deviation over clips of the base model.
MARGINS = {"true_head_motion": 0.05, "true_mouth_range": 2.0, "true_blink_rate": 0.3}

# What suits the tiny model on a CPU.
TRAINING: dict[str, Any] = {
    "max_steps": 120,
    "beta": 500.0,
    "loss_type": ["sigmoid", "sft"],
    "loss_weights": [1.0, 20.0],
    "learning_rate": 2e-4,
    "lora_r": 16,
    "lora_alpha": 32,
    # nearer to the clip the error is about texture, which the tiny model cannot help
    "timestep_low": 200.0,
    "eval_pairs": 32,
    "logging_steps": 5,
    "eval_steps": 40,
    "save_steps": 40,
}


@dataclass(frozen=True)
class LoopSize:
    """How much of everything a run of the whole loop makes."""

    train: int = 64  # conditions
    test: int = 16  # conditions whose pairs are held out of training
    evaluate: int = 40  # conditions for base against tuned
    candidates: int = 4  # per condition
    comparisons: int = 3  # per condition
    votes: int = 3  # per comparison
    annotators: int = 5
    error_rate: float = 0.1
    left_bias: float = 0.05
    training: Mapping[str, Any] = field(default_factory=lambda: dict(TRAINING))  # of `DiffusionDPOConfig`


DEMO = LoopSize()
