"""Optimizer state of any arrangement of processes, in the one form that every arrangement reads.

DDP and FSDP2 checkpoints look like those of a single process: what is sharded is put together before it
is written and split again when it is read, so a run may go on with other processes than it began with.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch


def whole(value: Any) -> Any:
    """A tensor with all its shards together (all processes must call this), on the CPU; other values as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    full: Any = value.full_tensor() if hasattr(value, "full_tensor") else value
    return full.detach().cpu()


def like(value: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """A whole tensor, sharded as `place` is."""
    if not hasattr(place, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = place
    return distribute_tensor(value.to(place.device), sharded.device_mesh, sharded.placements)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`optimizer.state_dict()` with whole tensors."""
    found = optimizer.state_dict()
    state = {place: {name: whole(value) for name, value in values.items()} for place, values in found["state"].items()}
    return {"state": state, "param_groups": found["param_groups"]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Puts whole tensors back, sharded as the parameters they belong to."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        place: {
            name: like(value, parameters[place])
            if isinstance(value, torch.Tensor) and value.shape == parameters[place].shape
            else value
            for name, value in values.items()
        }
        for place, values in saved["state"].items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def last_checkpoint(output_dir: Path) -> str | None:
    """The newest checkpoint whose last file, trainer_state.json, is whole."""
    numbered = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    checkpoints = sorted(numbered, key=lambda path: int(path.name.split("-")[1]))
    found = [path for path in checkpoints if _is_json(path / "trainer_state.json")]
    return str(found[-1]) if found else None


def remove_run(output_dir: Path) -> None:
    """Takes away what a run left in its folder."""
    (output_dir / "run.json").unlink(missing_ok=True)
    for folder in [*output_dir.glob("checkpoint-*"), output_dir / "adapter"]:
        shutil.rmtree(folder, ignore_errors=True)


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except (OSError, ValueError):
        return False
