"""`DiffusionDPOTrainer`: a `transformers.Trainer` whose step is Diffusion-DPO (Wallace et al., arXiv 2311.12908)."""

import contextlib
import copy
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from prefkit.backbones.adapters import attach_adapter, load_adapter, save_adapter
from prefkit.backbones.contract import Backbone, Conditioning
from prefkit.progress import track
from trainers.config import DiffusionDPOConfig
from trainers.data import EncodedPairs, EvaluationGrid, TrainingDraws, collate
from trainers.losses import prediction_errors, preference_loss, reward_metrics, supervised_loss

Batch = dict[str, Any]


class Denoiser(nn.Module):
    """A backbone's `predict` as the forward of a module, so that autocast, DDP and FSDP can wrap it."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.model = backbone.model
        self._predict = backbone.predict

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The prediction [B, C, F, h, w]."""
        return self._predict(noisy, timesteps, conditioning)


class DiffusionDPOTrainer(transformers.Trainer):
    """Fine-tunes a backbone on preference pairs, with LoRA or in full.

    Chosen and rejected clips share noise and timestep and go through the model in one forward. The
    reference is the model with its adapter off, or a frozen copy when all weights are trained.

    Args:
        backbone: what is tuned, in place.
        args: the options.
        train_pairs: encoded training pairs.
        eval_pairs: encoded held-out pairs, or None.
    """

    args: DiffusionDPOConfig
    train_dataset: Any
    eval_dataset: Any

    # -- set-up

    def __init__(
        self,
        backbone: Backbone,
        args: DiffusionDPOConfig,
        train_pairs: EncodedPairs,
        eval_pairs: EncodedPairs | None = None,
    ):
        self.backbone = backbone
        self.reference = _prepare_weights(backbone, args)
        self._sums: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._reference_on_grid: dict[int, torch.Tensor] = {}
        timesteps = {"low": args.timestep_low, "high": args.timestep_high}
        super().__init__(
            model=Denoiser(backbone),
            args=args,
            data_collator=collate,
            train_dataset=TrainingDraws(train_pairs, seed=args.seed, draws=args.draws, **timesteps),
            eval_dataset=EvaluationGrid(eval_pairs, size=args.eval_draws, limit=args.eval_pairs, **timesteps)
            if eval_pairs
            else None,
            compute_metrics=self._held_out_metrics,
        )
        if self.reference is not None:
            self.reference.to(args.device)
        self.loss_is_scaled_for_ga = False  # a mean over a batch, which transformers divides
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        if not args.disable_tqdm:
            self.add_callback(_ProgressBar())

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # TrainingDraws is shuffled already

    # -- the step

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch of `trainers.data.collate`; its metrics wait for the next `log`."""
        args = self.args
        if args.objective == "sft":
            (chosen,) = self._errors(model, inputs, ("chosen",))
            loss = supervised_loss(chosen, inputs["weight"])
            metrics = {"errors/chosen": chosen.detach().mean()}
        else:
            reference_chosen, reference_rejected = self._reference_errors(inputs)
            chosen, rejected = self._errors(model, inputs)
            loss, metrics = preference_loss(
                chosen,
                rejected,
                reference_chosen,
                reference_rejected,
                beta=args.beta,
                loss_type=args.loss_type,
                preference=inputs["preference"] if args.soft_labels else None,
                label_smoothing=args.label_smoothing,
                weight=inputs["weight"],
                rejected_weight=args.rejected_weight,
                sft_weight=args.sft_weight,
            )
        for name, value in metrics.items():
            self._sums[name].append(value)
        return (loss, {}) if return_outputs else loss

    def _errors(
        self, model: nn.Module, batch: Batch, sides: tuple[str, ...] = ("chosen", "rejected")
    ) -> tuple[torch.Tensor, ...]:
        """The model's errors [B] on each side, all sides in one forward."""
        latents = torch.cat([batch[f"{side}_latents"] for side in sides])
        noise = torch.cat([batch["noise"]] * len(sides))
        timesteps = torch.cat([batch["timestep"]] * len(sides))
        conditioning = {name: torch.cat([value] * len(sides)) for name, value in batch["conditioning"].items()}
        prediction = model(self.backbone.add_noise(latents, noise, timesteps), timesteps, conditioning)
        return prediction_errors(prediction, self.backbone.target(latents, noise, timesteps)).chunk(len(sides))

    @torch.no_grad()
    def _reference_errors(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        with self.accelerator.autocast():
            if self.reference is not None:
                return self._errors(self.reference, batch)
            with _adapter_off(self.backbone):
                return self._errors(self.accelerator.unwrap_model(self.model), batch)

    # -- held-out accuracy

    @torch.no_grad()
    def prediction_step(
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Errors on the fixed grid: (loss, [B, 4] policy and reference errors, [B] places on the grid)."""
        inputs = self._prepare_inputs(inputs)
        with self.accelerator.autocast():
            policy = self._errors(model, inputs)
        errors = torch.stack((*policy, *self._reference_on_the_grid(inputs)), dim=1)
        args = self.args
        if args.objective == "sft":
            loss = supervised_loss(policy[0])
        else:
            loss, _ = preference_loss(*errors.unbind(1), beta=args.beta, loss_type=args.loss_type)
        return loss, errors, inputs["index"]

    def _reference_on_the_grid(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The reference's errors, which never change on the grid, so they are computed once."""
        places = batch["index"].tolist()
        if any(place not in self._reference_on_grid for place in places):
            errors = torch.stack(self._reference_errors(batch), dim=1)
            self._reference_on_grid.update(zip(places, errors, strict=True))
        return torch.stack([self._reference_on_grid[place] for place in places]).unbind(1)

    def _held_out_metrics(self, outcome: transformers.EvalPrediction) -> dict[str, float]:
        errors = torch.as_tensor(outcome.predictions, dtype=torch.float64)
        return held_out_metrics(errors, torch.as_tensor(outcome.label_ids), self.eval_dataset.timesteps, self.args.beta)

    # -- logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last log, over all processes."""
        if "loss" in logs and self._sums:
            names = sorted(self._sums)
            means = torch.stack([torch.stack(self._sums[name]).mean() for name in names])
            logs |= dict(zip(names, self.accelerator.reduce(means, "mean").tolist(), strict=True))
            self._sums.clear()
        super().log(logs, start_time)

    # -- checkpoints: an adapter (or all weights) beside transformers' own state of optimizer, schedule and step

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:
            save_adapter(self.backbone, str(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_adapter(self.backbone, resume_from_checkpoint)
        self.backbone.model.to(self.args.device)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def held_out_metrics(
    errors: torch.Tensor, places: torch.Tensor, timesteps: list[float], beta: float
) -> dict[str, float]:
    """What is reported about held-out pairs.

    Args:
        errors: [N, 4]: policy on chosen, policy on rejected, reference on chosen, reference on rejected.
        places: [N]: pair * number of timesteps + timestep.
        timesteps: those of the grid.
        beta: as in `preference_loss`.

    Returns:
        The means of `reward_metrics`; ``implicit_accuracy``: the share of pairs whose margin, averaged
        over the grid, is positive (ties ½); ``accuracies/t<timestep>`` at each timestep apart.
    """
    metrics = reward_metrics(*errors.unbind(1), beta=beta)
    margins = (errors[:, 2] - errors[:, 0]) - (errors[:, 3] - errors[:, 1])
    pairs, bins = places // len(timesteps), places % len(timesteps)
    by_pair = torch.zeros(int(pairs.max()) + 1, dtype=errors.dtype).index_add_(0, pairs, margins)
    metrics["implicit_accuracy"] = _accuracy(by_pair)
    for index, timestep in enumerate(timesteps):
        metrics[f"accuracies/t{timestep:.0f}"] = _accuracy(margins[bins == index])
    return {name: float(value) for name, value in metrics.items()}


def _accuracy(margins: torch.Tensor) -> torch.Tensor:
    return ((margins.sign() + 1) / 2).mean()


def _prepare_weights(backbone: Backbone, args: DiffusionDPOConfig) -> Denoiser | None:
    """Says what trains; returns the frozen copy, or None where the reference is the adapter switched off."""
    torch.manual_seed(args.seed)  # a new adapter starts from random weights
    if args.use_peft:
        names = list(args.lora_target_modules)
        attach_adapter(backbone, LoraConfig(r=args.lora_r, lora_alpha=args.lora_alpha, target_modules=names))
        return None
    frozen = copy.copy(backbone)
    frozen.model = copy.deepcopy(backbone.model).requires_grad_(False)
    backbone.model.requires_grad_(True)
    return Denoiser(frozen)


@contextlib.contextmanager
def _adapter_off(backbone: Backbone) -> Iterator[None]:
    # the model's own disable_adapters() reads PEFT's version from disk at every call
    layers = [module for module in backbone.model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


class StopOnSignal(transformers.TrainerCallback):
    """Finishes the step, saves a checkpoint and stops when the process is told to end (SIGTERM)."""

    def __init__(self) -> None:
        self._asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signal over for the block; in another than the main thread nobody can, and it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _ask(self, number: int, frame: Any) -> None:
        self._asked = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asks transformers for the checkpoint and the end."""
        if self._asked:
            control.should_save = control.should_training_stop = True


class _ProgressBar(transformers.TrainerCallback):
    """prefkit's progress bar in place of transformers' one with a line per log."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            self._bar: Iterator[int] = iter(())
            return
        self._bar = track(range(state.global_step, state.max_steps), "Training")
        next(self._bar, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        next(self._bar, None)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if hasattr(self._bar, "close"):
            self._bar.close()
