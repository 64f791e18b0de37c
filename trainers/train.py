"""`train_dpo`: a preference dataset and a backbone -> a tuned adapter and the record of how it was made."""

import copy
import importlib.metadata
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefkit.backbones.adapters import has_adapter, save_adapter, saved_adapter_hash
from prefkit.backbones.contract import Backbone
from prefkit.errors import PrefkitError
from prefkit.tables import content_id
from prefkit.workspace import atomic_write
from trainers.callbacks import SampleDuringTraining, StopOnSignal
from trainers.checkpoints import last_checkpoint, remove_run
from trainers.config import DiffusionDPOConfig, computed_options
from trainers.dataset import Row, chosen_criteria, dataset_fingerprint, read_pairs
from trainers.encoding import EncodedPairs, WeightMap, encode_pairs
from trainers.trainer import DiffusionDPOTrainer

_PACKAGES = ("prefkit", "torch", "diffusers", "transformers", "peft", "accelerate", "trl")

# The backbone as it is now, the step, rows of held-out pairs -> what clips of their conditions were found to be
SampleHook = Callable[[Backbone, int, Sequence[Row]], Mapping[str, float]]


def train_dpo(
    dataset_folder: str | Path,
    output_dir: str | Path,
    backbone: Backbone,
    config: DiffusionDPOConfig,
    *,
    cache_folder: str | Path | None = None,
    resume: bool = True,
    weight_map: WeightMap | None = None,
    sample_hook: SampleHook | None = None,
) -> dict[str, Any]:
    """Fine-tunes `backbone` (in place) on a preference dataset.

    `output_dir` gets ``checkpoint-*``, ``adapter/`` (the final weights) and ``run.json``. A finished run
    of the same options, data and backbone is not repeated: its record is returned and the backbone is
    left as it was (`prefkit.backbones.adapters.load_adapter` loads the result). An interrupted one goes
    on from its last whole checkpoint, also with another number of processes.

    Args:
        dataset_folder: a folder of `prefkit build-pairs`.
        output_dir: the run's folder.
        backbone: what is tuned.
        config: the options; its own `output_dir` does not matter.
        cache_folder: where encoded clips and the reference's numbers are kept, for all runs on them; by
            default in `output_dir`.
        resume: false starts over.
        weight_map: weights of the errors over latent space, the same for both clips of a pair. Its name
            (``weight_map.__name__``) identifies the run together with the options.
        sample_hook: called every `sample_steps` steps; what it returns is logged as ``samples/<name>``.

    Returns:
        The contents of ``run.json``: ``finished``, ``config``, ``dataset``, ``backbone``, ``versions``,
        ``seed``, ``counts``, ``history`` (what was logged, each with its ``step``), ``seconds``,
        ``adapter_hash``.

    Raises:
        PrefkitError: the dataset cannot be trained on, the folder holds a run of other options, the disk
            is full, or a signal ended the run early (a checkpoint is saved first).
    """
    dataset_folder, output_dir = Path(dataset_folder), Path(output_dir)
    criteria = config.criteria, config.criterion_weights
    rows = {split: chosen_criteria(read_pairs(dataset_folder, split), *criteria) for split in ("train", "test")}
    if not rows["train"]:
        raise PrefkitError(f"{dataset_folder} has no training pairs; annotate more and build the pairs again")
    config = _placed(config, output_dir, held_out=bool(rows["test"]))
    record = _describe(dataset_folder, rows, backbone, config, weight_map)
    if not resume and config.process_index == 0:
        remove_run(output_dir)
    earlier = _earlier_run(output_dir, record["run_id"])
    if earlier is not None and earlier["finished"]:
        return earlier
    if has_adapter(backbone):
        raise PrefkitError("the backbone already has an adapter, which training would replace; load the backbone anew")

    cache = Path(cache_folder) if cache_folder is not None else output_dir / "cache"
    encoded = _encode(dataset_folder, rows, backbone, cache, config, weight_map)
    seconds_before = earlier["seconds"] if earlier is not None else 0.0
    started = time.monotonic()
    home = next(backbone.model.parameters()).device
    # without an adapter to switch off, the reference is the model that the policy starts as
    start = None if config.use_peft else record["start"]
    fingerprint = content_id(record["dataset"]["fingerprint"], record["weight_map"], start)
    trainer = DiffusionDPOTrainer(
        backbone,
        config,
        encoded["train"],
        encoded["test"],
        cache_folder=cache / backbone.weights_hash,
        dataset_fingerprint=fingerprint,
    )
    if config.process_index == 0:
        _write_record(output_dir, record | {"seconds": seconds_before})
    stop = StopOnSignal()
    trainer.add_callback(stop)
    if sample_hook is not None and config.sample_steps and trainer.eval_dataset is not None:
        trainer.add_callback(_sampling(trainer, sample_hook))
    try:
        with stop.listening():
            trainer.train(resume_from_checkpoint=last_checkpoint(output_dir))
        finished = not stop.asked or trainer.state.global_step >= trainer.state.max_steps
        if finished and encoded["test"] and not _judged_at_the_end(trainer):
            trainer.evaluate()
        if finished:
            digest = save_adapter(backbone, output_dir / "adapter", write=trainer.args.should_save)
            record |= {"adapter_hash": digest, "finished": True}
    finally:
        record["history"] = trainer.state.log_history
        record["seconds"] = round(seconds_before + time.monotonic() - started, 1)
        if trainer.is_world_process_zero():
            _write_record(output_dir, record)
        if not trainer.is_fsdp_enabled:
            backbone.model.to(home)  # the trainer moved it to its accelerator
    if not finished:
        step, steps = trainer.state.global_step, trainer.state.max_steps
        raise PrefkitError(
            f"training was told to stop after step {step} of {steps}; the same command goes on from there"
        )
    return record


def _encode(
    folder: Path,
    rows: Mapping[str, Sequence[Row]],
    backbone: Backbone,
    cache: Path,
    config: DiffusionDPOConfig,
    weight_map: WeightMap | None,
) -> dict[str, EncodedPairs]:
    """The first process encodes, the others read what it made."""
    with config.main_process_first(local=False, desc="encoding"):
        return {
            split: encode_pairs(
                folder, rows[split], backbone, cache, max_windows=config.max_windows, weight_map=weight_map
            )
            for split in rows
        }


def _sampling(trainer: DiffusionDPOTrainer, hook: SampleHook) -> SampleDuringTraining:
    if trainer.is_fsdp_enabled:
        raise PrefkitError(
            "clips cannot be sampled while weights are sharded; set sample_steps to 0 and sample from checkpoints"
        )
    args, grid = trainer.args, trainer.eval_dataset
    rows = [grid.pairs.rows[place] for place in grid.chosen_pairs]
    rows = list({row["condition_id"]: row for row in reversed(rows)}.values())[::-1][: args.sample_pairs]
    return SampleDuringTraining(lambda step: hook(trainer.backbone, step, rows), args.sample_steps, trainer.log)


# -- the record


def _describe(
    folder: Path,
    rows: dict[str, list[Row]],
    backbone: Backbone,
    config: DiffusionDPOConfig,
    weight_map: WeightMap | None,
) -> dict[str, Any]:
    fingerprint = dataset_fingerprint(folder, [*rows["train"], *rows["test"]])
    options = computed_options(config)
    start = None if config.start_adapter is None else saved_adapter_hash(config.start_adapter)
    named_map = None if weight_map is None else getattr(weight_map, "__name__", type(weight_map).__name__)
    return {
        "run_id": content_id(options, fingerprint, backbone.weights_hash, named_map, start),
        "finished": False,
        "config": options,
        "weight_map": named_map,
        "start": start,
        "processes": config.world_size,
        "seed": config.seed,
        "dataset": {"folder": folder.name, "fingerprint": fingerprint},
        "backbone": {"name": backbone.name, "weights_hash": backbone.weights_hash},
        "counts": {f"{split}_pairs": len(rows[split]) for split in rows}
        | {"sources": dict(Counter(row["source"] or "unknown" for split in rows.values() for row in split))},
        "versions": {name: _version(name) for name in _PACKAGES},
        "history": [],
        "seconds": 0.0,
        "adapter_hash": None,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _write_record(output_dir: Path, record: dict[str, Any]) -> None:
    with atomic_write(output_dir / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def _earlier_run(output_dir: Path, run_id: str) -> dict[str, Any] | None:
    path = output_dir / "run.json"
    if not path.exists():
        return None
    try:
        earlier = json.loads(path.read_text())
    except ValueError:
        raise PrefkitError(f"{path} cannot be read as JSON; name another output folder or start over") from None
    if earlier.get("run_id") != run_id:
        raise PrefkitError(
            f"{output_dir} holds a run with other options, data or weights; name another output folder or start over"
        )
    return earlier


# -- the folder


def _placed(config: DiffusionDPOConfig, output_dir: Path, *, held_out: bool) -> DiffusionDPOConfig:
    config = copy.copy(config)
    config.output_dir = str(output_dir)
    if not held_out:
        config.eval_strategy, config.load_best_model_at_end = "no", False
    return config


def _judged_at_the_end(trainer: DiffusionDPOTrainer) -> bool:
    history: Sequence[dict[str, Any]] = trainer.state.log_history
    return any("eval_loss" in logged and logged["step"] == trainer.state.global_step for logged in history)
