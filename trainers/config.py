"""The options of a run: `transformers.TrainingArguments` and what preference optimisation adds."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch
import transformers

from prefkit.errors import PrefkitError, nearest_names
from trainers.losses import LOSS_TYPES, check_options
from trainers.noise import MAX_TIMESTEP

OBJECTIVES = ("dpo", "sft")

# diffusers' names: every attention (self, text, audio, skeleton) and the feed-forward of each block
LORA_TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")


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
        metadata={"help": "Factor on mean squared errors; trainers/losses.py compares it with published trainers'."},
    )
    loss_type: str = field(default="sigmoid", metadata={"help": f"One of {', '.join(LOSS_TYPES)}."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Share of labels taken to be flipped, 0 to 0.5."})
    soft_labels: bool = field(
        default=False,
        metadata={"help": "Take each pair's `preference` (P chosen better) as its label instead of 1."},
    )
    sft_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of the chosen clip's own error, an anchor; beta / 10 is felt."},
    )
    rejected_weight: float = field(
        default=1.0,
        metadata={"help": "Damps the rejected clip's reward in the loss, 0 to 1; 1 is plain DPO."},
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
        metadata={"help": "Train a LoRA adapter (reference: adapter off); false trains all weights (a frozen copy)."},
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
    report_to: None | str | list[str] = field(default="none", metadata={"help": "Where logs go, e.g. tensorboard."})

    def __post_init__(self) -> None:
        """Checks the options before transformers resolves the rest."""
        if self.objective not in OBJECTIVES:
            raise PrefkitError(f"there is no objective {self.objective!r}{nearest_names(self.objective, OBJECTIVES)}")
        check_options(self.beta, self.loss_type, self.label_smoothing, self.rejected_weight, self.sft_weight)
        if not 0 <= self.timestep_low < self.timestep_high <= MAX_TIMESTEP:
            raise PrefkitError(
                f"timesteps from {self.timestep_low} to {self.timestep_high} were asked for; "
                f"expected 0 <= timestep_low < timestep_high <= {MAX_TIMESTEP:g}"
            )
        for name in ("draws", "eval_draws", "eval_pairs", "lora_r", "lora_alpha"):
            if getattr(self, name) < 1:
                raise PrefkitError(f"{name} is {getattr(self, name)}; expected 1 or more")
        super().__post_init__()


# Where a run lives and how it reports does not change what it computes.
_NOT_COMPUTED = {"output_dir", "disable_tqdm", "report_to", "run_name", "logging_dir", "log_level", "project"}


def computed_options(config: DiffusionDPOConfig) -> dict[str, Any]:
    """The options that differ from their defaults and bear on the result, as JSON: what identifies a run."""
    default = DiffusionDPOConfig(output_dir=config.output_dir).to_dict()
    given = config.to_dict()
    names = sorted(f.name for f in fields(config) if f.name in given and f.name not in _NOT_COMPUTED)
    own = {f.name for f in fields(DiffusionDPOConfig)} - {f.name for f in fields(transformers.TrainingArguments)}
    return {
        name: given[name]
        for name in names
        if given[name] != default[name] or name in own or name in ("seed", "learning_rate")
    }
