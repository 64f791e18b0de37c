"""`DiffusionDPOTrainer`: a `transformers.Trainer` whose step is Diffusion-DPO (Wallace et al., arXiv 2311.12908)."""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig
from torch import nn
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from prefkit.backbones.adapters import attach_adapter, restore_adapter, save_adapter
from prefkit.backbones.contract import Backbone, Conditioning
from prefkit.errors import PrefkitError
from trainers.callbacks import ProgressBar
from trainers.checkpoints import load_optimizer_state, optimizer_state
from trainers.config import DiffusionDPOConfig
from trainers.disk import full_disk_is_a_sentence
from trainers.draws import EvaluationGrid, TrainingDraws, collate
from trainers.encoding import EncodedPairs
from trainers.held_out import held_out_metrics
from trainers.losses import prediction_errors, preference_loss, supervised_loss
from trainers.reference import ReferenceCache, adapter_off, fill, frozen_copy, keys

Batch = dict[str, Any]
REFERENCE_FILE = "reference.pt"


class Denoiser(nn.Module):
    """A backbone's `predict` as the forward of a module, so that autocast, DDP and FSDP can wrap it."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.model = backbone.model
        self._predict = backbone.predict
        # the layers that FSDP shards one by one
        self._no_split_modules = getattr(backbone.model, "_no_split_modules", None)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The prediction [B, C, F, h, w]."""
        return self._predict(noisy, timesteps, conditioning)

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """What transformers calls; diffusers' models have their own name for it."""
        if not getattr(self.model, "_supports_gradient_checkpointing", False):
            raise PrefkitError(
                f"{type(self.model).__name__} has no gradient checkpointing; leave activation_checkpointing out"
            )
        self.model.enable_gradient_checkpointing()  # type: ignore[operator]

    gradient_checkpointing_enable = activation_checkpointing_enable  # the name before transformers 5.20


class DiffusionDPOTrainer(transformers.Trainer):
    """Fine-tunes a backbone on preference pairs, with LoRA or in full.

    Chosen and rejected clips share noise and timestep and go through the model in one forward.

    Args:
        backbone: what is tuned, in place.
        args: the options.
        train_pairs: encoded training pairs.
        eval_pairs: encoded held-out pairs, or None.
        cache_folder: where the reference's numbers are kept; None keeps them in memory.
        dataset_fingerprint: identifies the data in that cache.
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
        *,
        cache_folder: Path | None = None,
        dataset_fingerprint: str = "",
    ):
        self.backbone = backbone
        _prepare_weights(backbone, args)
        copied = args.objective == "dpo" and args.reference in ("copy", "synced")
        self.reference = Denoiser(frozen_copy(backbone)) if copied else None
        self._sums: dict[str, list[torch.Tensor]] = defaultdict(list)
        timesteps = {"low": args.timestep_low, "high": args.timestep_high}
        super().__init__(
            model=Denoiser(backbone),
            args=args,
            data_collator=collate,
            train_dataset=TrainingDraws(
                train_pairs,
                seed=args.seed,
                draws=args.draws,
                losers_per_winner=args.losers_per_winner,
                multiple_of=args.pairs_per_step,
                **timesteps,
            ),
            eval_dataset=EvaluationGrid(eval_pairs, size=args.eval_draws, limit=args.eval_pairs, **timesteps)
            if eval_pairs
            else None,
            compute_metrics=self._held_out_metrics,
        )
        self.loss_is_scaled_for_ga = False  # a mean over a batch, which transformers divides
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        if not args.disable_tqdm:
            self.add_callback(ProgressBar())
        if args.early_stopping_patience is not None and self.eval_dataset is not None:
            self.add_callback(transformers.EarlyStoppingCallback(args.early_stopping_patience))
        self._measure_reference(cache_folder, dataset_fingerprint)

    def _measure_reference(self, cache_folder: Path | None, dataset_fingerprint: str) -> None:
        """What the untuned model does on the held-out grid and, if asked for, at every draw of this run."""
        args = self.args
        self.model.to(args.device)
        if self.reference is not None:
            self.reference.to(args.device)
            if args.reference == "synced":
                self.add_callback(_sync_reference(self))
        about = {
            "weights": self.backbone.weights_hash,
            "dataset": dataset_fingerprint,
            "seed": args.seed,
            "draws": args.draws,
            "timesteps": [args.timestep_low, args.timestep_high],
            "held_out": [args.eval_draws, args.eval_pairs],
            "losers_per_winner": args.losers_per_winner,
            "windows": args.max_windows,
            "precision": str(self.accelerator.mixed_precision),
        }
        self._cache = ReferenceCache(cache_folder, about)
        self.accelerator.wait_for_everyone()  # all have read before one writes
        if args.reference == "cached" and args.objective == "dpo":
            seen = len(self.train_dataset)
            if args.max_steps > 0:
                seen = min(seen, (args.max_steps + 1) * args.pairs_per_step)  # loaders read a batch ahead
            self._fill(self.train_dataset, range(seen), args.per_device_train_batch_size, "Reference on training pairs")
            self.train_dataset.reference_errors = self._cache.errors
        if self.eval_dataset is not None:
            places = range(len(self.eval_dataset))
            self._fill(self.eval_dataset, places, args.per_device_eval_batch_size, "Reference on held-out pairs")

    def _fill(self, dataset: Any, entries: range, batch_size: int, description: str) -> None:
        share = (self.args.process_index, self.args.world_size)
        options = {"batch_size": batch_size, "description": description, "share": share}
        fill(self._cache, dataset, entries, self._measure_untuned, **options)  # type: ignore[arg-type]
        if self.args.world_size > 1:
            self._share_numbers(dataset, entries)

    def _share_numbers(self, dataset: Any, entries: range) -> None:
        wanted = {key for index in entries for key in keys(dataset, index)}
        known = [(key, self._cache.numbers(key)) for key in wanted if key in self._cache]
        gathered: list[Any] = [None] * self.args.world_size
        torch.distributed.all_gather_object(gathered, known)
        self._cache.hold([row for rows in gathered for row in rows])

    @torch.no_grad()
    def _measure_untuned(self, batch: Batch) -> torch.Tensor:
        inputs = self._prepare_inputs(batch)
        with self.accelerator.autocast(), adapter_off(self.backbone):
            return self._measure(self.accelerator.unwrap_model(self.model), inputs)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # TrainingDraws is shuffled already

    # -- the step

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch of `trainers.draws.collate`; its metrics wait for the next `log`."""
        args = self.args
        if args.objective == "sft":
            chosen = self._chosen_errors(model, inputs)
            loss = supervised_loss(chosen, inputs["weight"])
            metrics = {"errors/chosen": chosen.detach().mean()}
        else:
            reference_chosen, reference_rejected = self._reference_errors(inputs)
            chosen, rejected = self._errors(model, inputs)
            knows_ties = {"davidson", "rao_kupper"} & set(args.loss_type)
            loss, metrics = preference_loss(
                chosen,
                rejected,
                reference_chosen,
                reference_rejected,
                beta=args.beta,
                loss_type=args.loss_type,
                loss_weights=args.loss_weights,
                preference=inputs["preference"] if args.soft_labels else None,
                tie_probability=inputs["tie_probability"] if knows_ties or args.soft_labels else None,
                tie_rate=args.tie_rate,
                label_smoothing=args.label_smoothing,
                weight=inputs["weight"],
                rejected_weight=args.rejected_weight,
            )
        for name, value in metrics.items():
            self._sums[name].append(value)
        return (loss, {}) if return_outputs else loss

    def _chosen_errors(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        latents, noise, timesteps = batch["chosen_latents"], batch["noise"], batch["timestep"]
        prediction = model(self.backbone.add_noise(latents, noise, timesteps), timesteps, batch["conditioning"])
        return _chosen_errors(batch, prediction, self.backbone.target(latents, noise, timesteps))

    def _errors(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The model's errors [P] on the chosen and the rejected clips, both in one forward."""
        return _both_errors(batch, *self._predictions(model, batch))

    def _predictions(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model predicts of the chosen clips [E, ...] and then the rejected ones [P, ...], and its target."""
        entries = torch.arange(len(batch["chosen_latents"]), device=batch["winner"].device)
        both = torch.cat([entries, batch["winner"]])
        latents = torch.cat([batch["chosen_latents"], batch["rejected_latents"]])
        noise, timesteps = batch["noise"][both], batch["timestep"][both]
        conditioning = {name: value[both] for name, value in batch["conditioning"].items()}
        prediction = model(self.backbone.add_noise(latents, noise, timesteps), timesteps, conditioning)
        return prediction, self.backbone.target(latents, noise, timesteps)

    def _measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """[P, 4]: errors on chosen and rejected, then root mean squares of both predictions."""
        prediction, target = self._predictions(model, batch)
        norms = prediction.float().flatten(1).square().mean(1).sqrt()
        entries = len(batch["chosen_latents"])
        errors = _both_errors(batch, prediction, target)
        return torch.stack((*errors, norms[:entries][batch["winner"]], norms[entries:]), dim=1).float()

    @torch.no_grad()
    def _reference_errors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if "reference_errors" in batch:
            chosen, rejected = batch["reference_errors"].unbind(1)
            return chosen, rejected
        with self.accelerator.autocast():
            if self.reference is not None:
                return self._errors(self.reference, batch)
            with adapter_off(self.backbone):
                return self._errors(self.accelerator.unwrap_model(self.model), batch)

    # -- held-out accuracy

    @torch.no_grad()
    def prediction_step(
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """On the fixed grid: (loss, [B, 8] errors, then norms, of policy and reference, [B] places on the grid)."""
        inputs = self._prepare_inputs(inputs)
        with self.accelerator.autocast():
            policy = self._measure(model, inputs)
        places = inputs["index"].tolist()
        known = [self._cache.numbers(keys(self.eval_dataset, place)[0]) for place in places]
        reference = torch.tensor(known, device=policy.device)
        measured = torch.cat((policy[:, :2], reference[:, :2], policy[:, 2:], reference[:, 2:]), dim=1)
        args = self.args
        if args.objective == "sft":
            loss = supervised_loss(policy[:, 0])
        else:
            options = {"beta": args.beta, "loss_type": args.loss_type, "loss_weights": args.loss_weights}
            loss, _ = preference_loss(*measured[:, :4].unbind(1), **options)  # type: ignore[arg-type]
        return loss, measured, inputs["index"]

    def _held_out_metrics(self, outcome: transformers.EvalPrediction) -> dict[str, float]:
        measured = torch.as_tensor(outcome.predictions, dtype=torch.float64)
        grid = self.eval_dataset
        places = torch.as_tensor(outcome.label_ids)
        return held_out_metrics(
            measured[:, :4], places, grid.timesteps, self.args.beta, grid.criteria, norms=measured[:, 4:]
        )

    # -- logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last log, over all processes."""
        if "loss" in logs and self._sums:
            names = sorted(self._sums)
            means = torch.stack([torch.stack(self._sums[name]).mean() for name in names])
            logs |= dict(zip(names, self.accelerator.reduce(means, "mean").tolist(), strict=True))
            self._sums.clear()
        super().log(logs, start_time)

    # -- checkpoints: an adapter (or all weights) beside transformers' own state of schedule and step

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the adapter, or all weights; every process must call it."""
        folder = Path(output_dir or str(self.args.output_dir))
        save_adapter(self.backbone, folder, write=self.args.should_save)
        if self.args.reference == "synced" and self.args.should_save and self.reference is not None:
            torch.save(self.reference.state_dict(), folder / REFERENCE_FILE)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with full_disk_is_a_sentence(folder.parent):
                super()._save_checkpoint(model, trial)
        except PrefkitError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = optimizer_state(_inner(self.optimizer))
        if self.args.should_save:
            torch.save(state, Path(output_dir) / "optimizer.pt")
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.is_deepspeed_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        read: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
        load_optimizer_state(_inner(self.optimizer), torch.load(Path(checkpoint) / "optimizer.pt", **read))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", **read))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        restore_adapter(self.backbone, resume_from_checkpoint)
        reference = Path(resume_from_checkpoint) / REFERENCE_FILE
        if self.args.reference == "synced" and self.reference is not None and reference.exists():
            self.reference.load_state_dict(torch.load(reference, map_location=self.args.device, weights_only=True))

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer below accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _both_errors(batch: Batch, prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors [P] on the chosen and on the rejected clips of `_predictions`."""
    entries = len(batch["chosen_latents"])
    rejected = prediction_errors(prediction[entries:], target[entries:], batch.get("loss_map"))
    return _chosen_errors(batch, prediction[:entries], target[:entries]), rejected


def _chosen_errors(batch: Batch, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Errors [P], each pair's on the chosen clip of its entry; a weight map belongs to a pair."""
    winner, loss_map = batch["winner"], batch.get("loss_map")
    if loss_map is None:
        return prediction_errors(prediction, target)[winner]
    return prediction_errors(prediction[winner], target[winner], loss_map)


def _prepare_weights(backbone: Backbone, args: DiffusionDPOConfig) -> None:
    """Says what trains."""
    torch.manual_seed(args.seed)  # a new adapter starts from random weights
    if not args.use_peft:
        backbone.model.requires_grad_(True)
    else:
        names = list(args.lora_target_modules)
        attach_adapter(backbone, LoraConfig(r=args.lora_r, lora_alpha=args.lora_alpha, target_modules=names))
    if args.start_adapter is not None:
        restore_adapter(backbone, args.start_adapter)


def _sync_reference(trainer: DiffusionDPOTrainer) -> transformers.TrainerCallback:
    from trl import SyncRefModelCallback  # a slow import

    return SyncRefModelCallback(trainer.reference, trainer.accelerator)
