"""`train_dpo`: a preference dataset and a backbone -> a tuned adapter and the record of how it was made."""

import copy
import importlib.metadata
import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefkit.backbones.adapters import has_adapter, save_adapter
from prefkit.backbones.contract import Backbone
from prefkit.errors import PrefkitError
from prefkit.tables import content_id
from prefkit.workspace import atomic_write
from trainers.config import DiffusionDPOConfig, computed_options
from trainers.data import Row, dataset_fingerprint, encode_pairs, read_pairs
from trainers.trainer import DiffusionDPOTrainer, StopOnSignal

_PACKAGES = ("prefkit", "torch", "diffusers", "transformers", "peft", "accelerate")


def train_dpo(
    dataset_folder: str | Path,
    output_dir: str | Path,
    backbone: Backbone,
    config: DiffusionDPOConfig,
    *,
    cache_folder: str | Path | None = None,
    resume: bool = True,
) -> dict[str, Any]:
    """Fine-tunes `backbone` (in place) on a preference dataset.

    `output_dir` gets ``checkpoint-*``, ``adapter/`` (the final weights) and ``run.json``. A finished run
    of the same options, data and backbone is not repeated: its record is returned and the backbone is
    left as it was (`prefkit.backbones.adapters.load_adapter` loads the result). An interrupted one goes
    on from its last whole checkpoint.

    Args:
        dataset_folder: a folder of `prefkit build-pairs`.
        output_dir: the run's folder.
        backbone: what is tuned.
        config: the options; its own `output_dir` does not matter.
        cache_folder: where encoded clips are kept, for all runs on them; by default in `output_dir`.
        resume: false starts over.

    Returns:
        The contents of ``run.json``: ``finished``, ``config``, ``dataset``, ``backbone``, ``versions``,
        ``seed``, ``counts``, ``history`` (what was logged, each with its ``step``), ``seconds``,
        ``adapter_hash``.

    Raises:
        PrefkitError: the dataset cannot be trained on, the folder holds a run of other options, or a
            signal ended the run early (a checkpoint is saved first).
    """
    dataset_folder, output_dir = Path(dataset_folder), Path(output_dir)
    rows = {split: read_pairs(dataset_folder, split) for split in ("train", "test")}
    if not rows["train"]:
        raise PrefkitError(f"{dataset_folder} has no training pairs; annotate more and build the pairs again")
    config = _placed(config, output_dir, held_out=bool(rows["test"]))
    record = _describe(dataset_folder, rows, backbone, config)
    if not resume:
        _clear(output_dir)
    earlier = _earlier_run(output_dir, record["run_id"])
    if earlier is not None and earlier["finished"]:
        return earlier
    if has_adapter(backbone):
        raise PrefkitError("the backbone already has an adapter, which training would replace; load the backbone anew")

    cache = Path(cache_folder) if cache_folder is not None else output_dir / "cache"
    encoded = {split: encode_pairs(dataset_folder, rows[split], backbone, cache) for split in rows}
    seconds_before = earlier["seconds"] if earlier is not None else 0.0
    _write_record(output_dir, record | {"seconds": seconds_before})
    started = time.monotonic()
    home = next(backbone.model.parameters()).device
    trainer = DiffusionDPOTrainer(backbone, config, encoded["train"], encoded["test"])
    stop = StopOnSignal()
    trainer.add_callback(stop)
    try:
        with stop.listening():
            trainer.train(resume_from_checkpoint=_last_checkpoint(output_dir))
        finished = trainer.state.global_step >= trainer.state.max_steps
        if finished and encoded["test"] and not _judged_at_the_end(trainer):
            trainer.evaluate()
    finally:
        backbone.model.to(home)  # the trainer moved it to its accelerator
        record["history"] = trainer.state.log_history
        record["seconds"] = round(seconds_before + time.monotonic() - started, 1)
        if trainer.is_world_process_zero():
            _write_record(output_dir, record)
    if not finished:
        step, steps = trainer.state.global_step, trainer.state.max_steps
        raise PrefkitError(
            f"training was told to stop after step {step} of {steps}; the same command goes on from there"
        )
    if trainer.is_world_process_zero():
        record |= {"adapter_hash": save_adapter(backbone, output_dir / "adapter"), "finished": True}
        _write_record(output_dir, record)
    return record


# -- the record


def _describe(
    folder: Path, rows: dict[str, list[Row]], backbone: Backbone, config: DiffusionDPOConfig
) -> dict[str, Any]:
    fingerprint = dataset_fingerprint(folder, [*rows["train"], *rows["test"]])
    options = computed_options(config)
    return {
        "run_id": content_id(options, fingerprint, backbone.weights_hash),
        "finished": False,
        "config": options,
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


def _last_checkpoint(output_dir: Path) -> str | None:
    """The newest checkpoint whose last file, trainer_state.json, is whole."""
    checkpoints = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = [path for path in checkpoints if _is_json(path / "trainer_state.json")]
    return str(whole[-1]) if whole else None


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except (OSError, ValueError):
        return False


def _clear(output_dir: Path) -> None:
    (output_dir / "run.json").unlink(missing_ok=True)
    for folder in [*output_dir.glob("checkpoint-*"), output_dir / "adapter"]:
        shutil.rmtree(folder, ignore_errors=True)


def _judged_at_the_end(trainer: DiffusionDPOTrainer) -> bool:
    history: Sequence[dict[str, Any]] = trainer.state.log_history
    return any("eval_loss" in logged and logged["step"] == trainer.state.global_step for logged in history)
