"""The options of a run: `transformers.TrainingArguments` and what preference optimisation adds."""

import importlib.util
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import transformers

from prefkit.errors import PrefkitError, nearest_names
from trainers.losses import LOSS_TYPES, check_options, loss_terms
from trainers.noise import MAX_TIMESTEP

OBJECTIVES = ("dpo", "sft")
REFERENCES = ("adapter_off", "copy", "synced", "cached")

# diffusers' names: every attention (self, text, audio, skeleton) and the feed-forward of each block
LORA_TARGET_MODULES = (
    "to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2", "ff.net.0.proj", "ff.net.2",
)  # fmt: skip


def _tensorboard() -> str:
    return "tensorboard" if importlib.util.find_spec("tensorboard") else "none"


@dataclass
class DiffusionDPOConfig(transformers.TrainingArguments):
    """Every option of `DiffusionDPOTrainer`; names follow TRL's `DPOConfig` and `ModelConfig`."""

    # -- the objective
    objective: str = field(
        default="dpo",
        metadata={"help": "'dpo', or 'sft': supervised fine-tuning on the chosen clips alone, the usual baseline."},
    )
    beta: float = field(
        default=500.0,
        metadata={"help": "Factor on mean squared errors; docs/training.md compares it with published trainers'."},
    )
    loss_type: list[str] = field(
        default_factory=lambda: ["sigmoid"],
        metadata={"help": f"One or several of {', '.join(LOSS_TYPES)}; their weighted sum is the loss."},
    )
    loss_weights: list[float] | None = field(
        default=None,
        metadata={"help": "A weight for each loss type, 1 by default; beta / 10 for 'sft' is felt."},
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "Share of labels taken to be flipped, 0 to 0.5: mixed into them, or corrected by 'robust'."},
    )
    soft_labels: bool = field(
        default=False,
        metadata={"help": "Take each pair's `preference` (P chosen better) as its label instead of 1."},
    )
    tie_rate: float = field(
        default=1 / 3,
        metadata={"help": "Share of ties between equal clips, for the losses davidson and rao_kupper."},
    )
    rejected_weight: float = field(
        default=1.0,
        metadata={"help": "Damps the rejected clip's reward in the loss, 0 to 1; 1 is plain DPO."},
    )
    criteria: list[str] | None = field(default=None, metadata={"help": "Criteria whose pairs train; by default all."})
    criterion_weights: list[float] | None = field(
        default=None, metadata={"help": "A weight for each of `criteria`, 1 by default."}
    )
    losers_per_winner: int = field(
        default=1,
        metadata={
            "help": "Pairs with the same chosen clip that are trained on together, at one noise and timestep: N of "
            "them cost N + 1 forwards instead of 2N. A batch counts chosen clips."
        },
    )
    max_windows: int = field(
        default=8,
        metadata={
            "help": "A clip longer than the model takes is cut into at most so many windows, from its beginning."
        },
    )

    # -- what the policy is compared with
    reference: str | None = field(
        default=None,
        metadata={
            "help": "'adapter_off' (default with LoRA), 'copy' (default without), 'cached' (its errors at every draw, "
            "computed once: a step then costs what supervised fine-tuning costs, and no copy is held), or 'synced' "
            "(a copy that follows the policy, see ref_model_*)."
        },
    )
    start_adapter: str | None = field(
        default=None,
        metadata={
            "help": "Folder of an earlier run's adapter from which the policy starts, as for a next round. The "
            "reference stays the untuned model; with reference 'copy' it is the model that the policy starts as."
        },
    )
    ref_model_mixup_alpha: float = field(
        default=0.6,
        metadata={"help": "Of a synced reference: reference = alpha * policy + (1 - alpha) * reference."},
    )
    ref_model_sync_steps: int = field(
        default=512, metadata={"help": "Steps between updates of a synced reference; 1 makes it a moving average."}
    )

    # -- noise and timesteps
    draws: int = field(
        default=16,
        metadata={
            "help": "Draws of (noise, timestep) per pair, stratified over timesteps. One epoch shows every pair "
            "this many times."
        },
    )
    timestep_low: float = field(default=0.0, metadata={"help": "Timesteps are drawn above this, of 1000."})
    timestep_high: float = field(default=MAX_TIMESTEP, metadata={"help": "Timesteps are drawn up to this, of 1000."})

    # -- what is trained
    use_peft: bool = field(
        default=True,
        metadata={"help": "Train a LoRA adapter; false trains all weights."},
    )
    lora_r: int = field(default=16, metadata={"help": "LoRA rank."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA alpha; the update is scaled by alpha / rank."})
    lora_target_modules: list[str] = field(
        default_factory=lambda: list(LORA_TARGET_MODULES),
        metadata={"help": "Ends of the names of the layers that get an adapter."},
    )

    # -- held-out evaluation
    eval_draws: int = field(
        default=4, metadata={"help": "Fixed timesteps (each with its fixed noise) at which held-out pairs are judged."}
    )
    eval_pairs: int = field(default=64, metadata={"help": "At most this many held-out pairs are judged."})

    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop when the held-out accuracy has not grown for so many evaluations; keep the best."},
    )
    sample_steps: int = field(
        default=0, metadata={"help": "Sample clips and score them every so many steps; 0 never does."}
    )
    sample_pairs: int = field(default=4, metadata={"help": "Held-out conditions that are sampled then."})

    # -- defaults of transformers that suit this trainer
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(default=0.0, metadata={"help": "AdamW's weight decay."})
    lr_scheduler_type: str = field(default="constant_with_warmup", metadata={"help": "The learning-rate schedule."})
    warmup_steps: float = field(default=10, metadata={"help": "Steps of linear warm-up."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Pairs per step and device."})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "Pairs per held-out batch and device."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "Epochs, unless max_steps is given; see draws."})
    logging_steps: float = field(default=10, metadata={"help": "Log every so many steps."})
    eval_strategy: str = field(default="steps", metadata={"help": "When held-out pairs are judged."})
    eval_steps: float | None = field(default=50, metadata={"help": "Judge held-out pairs every so many steps."})
    save_strategy: str = field(default="steps", metadata={"help": "When checkpoints are saved."})
    save_steps: float = field(default=50, metadata={"help": "Save a checkpoint every so many steps."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints that are kept."})
    metric_for_best_model: str | None = field(
        default="eval_implicit_accuracy", metadata={"help": "What load_best_model_at_end and early stopping look at."}
    )
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether more of that metric is better."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Left off: a batch is no table of columns."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin batches in memory; needs a GPU."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Left off: every trained weight has a gradient at every step."}
    )
    report_to: None | str | list[str] = field(
        default_factory=_tensorboard,
        metadata={"help": "Where logs go: anything transformers reports to; TensorBoard where it is installed."},
    )

    def __post_init__(self) -> None:
        """Checks the options before transformers resolves the rest.

        Raises:
            PrefkitError: an option is unknown or outside its range, or two do not go together.
        """
        if isinstance(self.loss_type, str):
            self.loss_type = [self.loss_type]
        if self.objective not in OBJECTIVES:
            raise PrefkitError(f"there is no objective {self.objective!r}{nearest_names(self.objective, OBJECTIVES)}")
        loss_terms(self.loss_type, self.loss_weights)
        check_options(self.beta, self.label_smoothing, self.rejected_weight, self.tie_rate)
        self._check_numbers()
        self._check_reference()
        if self.criterion_weights is not None and len(self.criterion_weights) != len(self.criteria or ()):
            raise PrefkitError(
                f"criterion_weights has {len(self.criterion_weights)} numbers for {len(self.criteria or ())} criteria; "
                "expected one for each of `criteria`"
            )
        if self.early_stopping_patience is not None:
            self.load_best_model_at_end = True
        try:
            super().__post_init__()
        except ValueError as error:
            raise PrefkitError(f"the options do not go together: {error}") from error
        if self.n_gpu > 1:
            # several devices are several processes (accelerate launch), never one that splits its batch
            self._n_gpu = 1

    def _check_numbers(self) -> None:
        if not 0 <= self.timestep_low < self.timestep_high <= MAX_TIMESTEP:
            raise PrefkitError(
                f"timesteps from {self.timestep_low} to {self.timestep_high} were asked for; "
                f"expected 0 <= timestep_low < timestep_high <= {MAX_TIMESTEP:g}"
            )
        at_least_one = ("draws", "eval_draws", "eval_pairs", "lora_r", "lora_alpha", "losers_per_winner", "max_windows")
        for name in (*at_least_one, "ref_model_sync_steps", "sample_pairs"):
            if getattr(self, name) < 1:
                raise PrefkitError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise PrefkitError(f"ref_model_mixup_alpha is {self.ref_model_mixup_alpha}; expected above 0, at most 1")

    def _check_reference(self) -> None:
        if self.reference is None:
            self.reference = "adapter_off" if self.use_peft else "copy"
        if self.reference not in REFERENCES:
            raise PrefkitError(f"there is no reference {self.reference!r}{nearest_names(self.reference, REFERENCES)}")
        if self.reference == "adapter_off" and not self.use_peft:
            raise PrefkitError(
                "the reference 'adapter_off' needs a LoRA adapter, but use_peft is false; take 'copy' or 'cached'"
            )

    @property
    def pairs_per_step(self) -> int:
        """Entries of the training data that one optimizer step sees, over all processes."""
        return self.train_batch_size * self.world_size * self.gradient_accumulation_steps


# What makes a run another one: all options of our own, and these of transformers'. Where it lives, how it
# reports and how its batches are split over processes does not change what it computes.
_COMPUTED = (
    "seed", "learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs", "max_steps", "lr_scheduler_type",
    "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio", "optim", "optim_args", "adam_beta1", "adam_beta2",
    "adam_epsilon", "bf16", "fp16", "load_best_model_at_end", "metric_for_best_model",
)  # fmt: skip
# These of our own change only what is looked at on the way.
_LOOKED_AT = ("sample_steps", "sample_pairs")
# The hash of these weights identifies a run (train.py), wherever they lie.
_PLACES = ("start_adapter",)


def computed_options(config: DiffusionDPOConfig) -> dict[str, Any]:
    """The options that bear on the result, as JSON: what identifies a run."""
    own = {one.name for one in fields(DiffusionDPOConfig)} - {
        one.name for one in fields(transformers.TrainingArguments)
    }
    given = config.to_dict()
    names = {one.name for one in fields(config)} & ({*own, *_COMPUTED} - {*_LOOKED_AT, *_PLACES})
    return {name: given[name] for name in sorted(names)} | {"pairs_per_step": config.pairs_per_step}
