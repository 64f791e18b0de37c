"""One run, however it is split and however it ends: real processes, real signals."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from trainers.__main__ import run

HERE = Path(__file__).parent
STEPS = 30

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def write_config(folder: Path, dataset_folder: Path, small_run: dict[str, Any]) -> Callable[..., Path]:
    """Writes the YAML of a run; eight pairs a step."""

    def write(name: str, **options: Any) -> Path:
        path = folder / f"{name}.yaml"
        what = {
            "dataset": str(dataset_folder),
            "backbone": "conftest:SmallBackbone",
            "cache_folder": str(folder / "cache"),
            "output_dir": str(folder / name),
            "per_device_train_batch_size": 8,
            "max_steps": STEPS,
            "draws": 8,
            "save_steps": 1,
            "save_total_limit": None,
            "eval_steps": STEPS,
            "learning_rate": 1e-3,
        }
        path.write_text(yaml.safe_dump(small_run | what | options))
        return path

    return write


@pytest.fixture(scope="module")
def in_this_process(folder: Path) -> Callable[[Path], None]:
    def train(config: Path) -> None:
        sys.path.insert(0, str(HERE))
        try:
            run([str(config)])
        finally:
            sys.path.remove(str(HERE))

    return train


@pytest.fixture(scope="module")
def one_batch(write_config: Callable[..., Path], in_this_process: Callable[[Path], None]) -> Path:
    """The run that the others are compared with: one process, eight pairs at a time."""
    config = write_config("whole")
    in_this_process(config)
    return config.with_suffix("")


def launch(config: Path, *options: str, kill_at: int | None = None) -> subprocess.CompletedProcess[str]:
    """Two processes on the CPU, as `accelerate launch` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", port, "-m", "trainers", str(config)]
    return subprocess.run(command, env=environment(kill_at), capture_output=True, text=True, cwd=HERE.parents[1])


def environment(kill_at: int | None) -> dict[str, str]:
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    extra = {} if kill_at is None else {"PREFKIT_TEST_KILL_AT": str(kill_at)}
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"} | extra


def weights(folder: Path) -> Weights:
    return load_file(folder / "pytorch_lora_weights.safetensors")


def assert_close(first: Weights, second: Weights, tolerance: float) -> None:
    assert first.keys() == second.keys() and first
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=tolerance)


def assert_same_run(one: Path, other: Path) -> None:
    assert_close(weights(one / "checkpoint-1"), weights(other / "checkpoint-1"), 1e-6)
    assert_close(weights(one / "adapter"), weights(other / "adapter"), 1e-3)


def test_eight_accumulated_batches_of_one_are_one_batch_of_eight(
    one_batch: Path, write_config: Callable[..., Path], in_this_process: Callable[[Path], None]
) -> None:
    config = write_config("accumulated", per_device_train_batch_size=1, gradient_accumulation_steps=8)
    in_this_process(config)
    assert_same_run(one_batch, config.with_suffix(""))


def test_two_processes_of_four_are_one_batch_of_eight(one_batch: Path, write_config: Callable[..., Path]) -> None:
    config = write_config("two", per_device_train_batch_size=4)
    done = launch(config, "--multi_gpu")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_run(one_batch, config.with_suffix(""))


def test_sharded_over_two_processes_killed_and_resumed_on_one(
    one_batch: Path, write_config: Callable[..., Path], in_this_process: Callable[[Path], None]
) -> None:
    options = {"per_device_train_batch_size": 4, "max_steps": STEPS, "save_steps": 4}
    config = write_config("sharded", backbone="conftest:KilledBackbone", **options)
    fsdp = ("--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "NO_WRAP")
    done = launch(config, *fsdp, kill_at=30)
    assert done.returncode != 0
    checkpoints = sorted(path.name for path in config.with_suffix("").glob("checkpoint-*"))
    assert "checkpoint-8" in checkpoints and not (config.with_suffix("") / "adapter").exists(), done.stderr[-3000:]
    assert_close(weights(config.with_suffix("") / "checkpoint-8"), weights(one_batch / "checkpoint-8"), 1e-4)
    in_this_process(write_config("sharded", save_steps=4))
    assert_close(weights(one_batch / "adapter"), weights(config.with_suffix("") / "adapter"), 1e-3)


def test_a_run_killed_at_a_random_step_ends_as_one_never_killed(
    one_batch: Path, write_config: Callable[..., Path], in_this_process: Callable[[Path], None]
) -> None:
    config = write_config("killed", backbone="conftest:KilledBackbone", save_steps=3)
    forward = random.randint(8, 2 * STEPS)  # two a step
    command = [sys.executable, "-m", "trainers", str(config)]
    done = subprocess.run(command, env=environment(forward), capture_output=True, text=True)
    assert done.returncode == -9, done.stderr[-3000:]
    in_this_process(write_config("killed", save_steps=3))
    assert_close(weights(one_batch / "adapter"), weights(config.with_suffix("") / "adapter"), 1e-6)
