import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trainers.disk
from prefkit.errors import PrefkitError
from trainers.config import DiffusionDPOConfig
from trainers.dataset import read_pairs
from trainers.encoding import encode_pairs
from trainers.train import train_dpo


@pytest.fixture
def files_of_2_kb() -> Iterator[None]:
    """No file can grow beyond two kilobytes: what a full disk does to a write."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_that_does_not_fit_leaves_nothing_and_the_run_goes_on_later(
    dataset_folder: Path, make_backbone: Any, tmp_path: Path, small_run: dict[str, Any], request: Any
) -> None:
    config = DiffusionDPOConfig(**(small_run | {"output_dir": "unused", "eval_strategy": "no", "lora_r": 16}))
    cache = {"cache_folder": tmp_path / "cache"}
    encode_pairs(dataset_folder, read_pairs(dataset_folder, "train"), make_backbone(), tmp_path / "cache")
    train_dpo(dataset_folder, tmp_path / "whole", make_backbone(), config, **cache)  # type: ignore[arg-type]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7000, before[1]))
    try:
        with pytest.raises(PrefkitError, match="is full .* run the same command again"):
            train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config, **cache)  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.json"]
    assert train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config, **cache)["finished"]  # type: ignore[arg-type]


def test_a_clip_that_does_not_fit_leaves_nothing(
    make_dataset: Any, make_backbone: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = make_dataset(tmp_path / "data", train=1, test=0, latents=False)
    backbone, rows = make_backbone(), read_pairs(folder, "train")
    encode_pairs(folder, rows, backbone, tmp_path / "other")
    request.getfixturevalue("files_of_2_kb")
    backbone.encode_clip = lambda frames: make_backbone().encode_clip(frames).repeat(4, 1, 1, 1)
    with pytest.raises(PrefkitError, match="the disk of .* is full"):
        encode_pairs(folder, rows, backbone, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("clip-*")) and not list((tmp_path / "cache").rglob(".writing-*"))


def test_what_will_not_fit_is_said_before(
    make_dataset: Any, make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_dataset(tmp_path / "data", train=4, test=0, latents=False)
    monkeypatch.setattr(trainers.disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=2000))
    backbone = make_backbone()
    with pytest.raises(PrefkitError, match="the encoded clips and conditions will take about"):
        encode_pairs(folder, read_pairs(folder, "train"), backbone, tmp_path / "cache")
    assert backbone.encoded == ["condition", "clip"]  # one of each says how much all will take
