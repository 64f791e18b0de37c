from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from prefkit.errors import PrefkitError
from prefkit.media import write_clip
from trainers.dataset import dataset_fingerprint, read_pairs
from trainers.draws import EvaluationGrid, TrainingDraws, collate
from trainers.encoding import encode_pairs

RANGE = {"low": 0.0, "high": 1000.0}


def test_kept_latents_are_used_and_conditions_are_encoded_once(
    dataset_folder: Path, make_backbone: Any, tmp_path: Path
) -> None:
    backbone = make_backbone()
    rows = read_pairs(dataset_folder, "train")
    pairs = encode_pairs(dataset_folder, rows, backbone, tmp_path)
    assert backbone.encoded == ["condition"] * 5  # ten pairs, two to a condition
    assert torch.equal(pairs[3]["rejected_latents"], load_file(dataset_folder / rows[3]["rejected_latents"])["latents"])
    assert np.mean(pairs.weights) == pytest.approx(1)
    assert pairs.weights[1] == pytest.approx(2 * pairs.weights[0])

    again = make_backbone()
    encode_pairs(dataset_folder, rows, again, tmp_path)
    assert again.encoded == []


def test_clips_without_latents_are_encoded(
    make_dataset: Callable[..., Path], make_backbone: Any, tmp_path: Path
) -> None:
    folder = make_dataset(tmp_path / "data", train=2, test=0, latents=False)
    backbone = make_backbone()
    pairs = encode_pairs(folder, read_pairs(folder, "train"), backbone, tmp_path / "cache")
    assert sorted(backbone.encoded) == ["clip"] * 4 + ["condition"]
    assert pairs[0]["chosen_latents"].mean() > pairs[0]["rejected_latents"].mean() + 0.2  # chosen clips are brighter


def test_latents_of_other_weights_are_not_used(
    make_dataset: Callable[..., Path], make_backbone: Any, tmp_path: Path
) -> None:
    folder = make_dataset(tmp_path / "data", train=1, test=0)
    path = folder / "latents" / "train0-chosen.safetensors"
    save_file(load_file(path), path, metadata={"weights_hash": "another"})
    backbone = make_backbone()
    encode_pairs(folder, read_pairs(folder, "train"), backbone, tmp_path / "cache")
    assert backbone.encoded.count("clip") == 1


def test_the_fingerprint_follows_contents(make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "data", train=1, test=0)
    rows = read_pairs(folder, "train")
    before = dataset_fingerprint(folder, rows)
    assert before == dataset_fingerprint(folder, rows)
    assert before != dataset_fingerprint(folder, [dict(rows[0]) | {"weight": 9.0}])
    (folder / rows[0]["audio"]).write_bytes(b"changed")
    assert before != dataset_fingerprint(folder, rows)


def test_training_draws_show_each_pair_once_a_pass(dataset_folder: Path, make_backbone: Any, tmp_path: Path) -> None:
    pairs = encode_pairs(dataset_folder, read_pairs(dataset_folder, "train"), make_backbone(), tmp_path)
    draws = TrainingDraws(pairs, seed=3, draws=4, **RANGE)
    items = [draws[index] for index in range(len(draws))]
    passes = [[item["pairs"][0]["pair_id"] for item in items[start : start + 10]] for start in range(0, 40, 10)]
    assert all(sorted(order) == sorted(passes[0]) for order in passes)
    assert len({tuple(order) for order in passes}) == 4
    of_one = sorted(item["timestep"] for item in items if item["pairs"][0]["pair_id"] == "train0")
    assert [int(timestep // 250.0001) for timestep in of_one] == [0, 1, 2, 3]
    batch = collate(items[:3])
    assert batch["noise"].shape == batch["chosen_latents"].shape == (3, 8, 2, 4, 4)
    assert batch["conditioning"]["condition"].shape == (3, 4)


def test_the_held_out_grid_is_fixed(dataset_folder: Path, make_backbone: Any, tmp_path: Path) -> None:
    pairs = encode_pairs(dataset_folder, read_pairs(dataset_folder, "test"), make_backbone(), tmp_path)
    grid = EvaluationGrid(pairs, size=2, limit=3, **RANGE)
    assert grid.timesteps == [250.0, 750.0]
    assert [grid[index]["pairs"][0]["pair_id"] for index in range(len(grid))] == [f"test{n // 2}" for n in range(6)]
    assert torch.equal(grid[2]["noise"], EvaluationGrid(pairs, size=2, limit=64, **RANGE)[2]["noise"])


def damage_nan(folder: Path) -> None:
    path = folder / "latents" / "train0-chosen.safetensors"
    save_file({"latents": load_file(path)["latents"].fill_(torch.nan)}, path)


def damage_size(folder: Path) -> None:
    save_file({"latents": torch.zeros(8, 3, 4, 4)}, folder / "latents" / "train0-rejected.safetensors")


def damage_latents(folder: Path) -> None:
    (folder / "latents" / "train0-rejected.safetensors").write_bytes(b"no safetensors")


def damage_skeleton_rate(folder: Path) -> None:
    write_clip(folder / "media" / "train0.mp4", np.zeros((5, 16, 16, 3), np.uint8), 30.0)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_nan, "chosen latents of pair train0 hold NaN"),
        (damage_size, "clips of pair train0 differ in length or size"),
        (damage_latents, "train0-rejected.safetensors cannot be read"),
        (damage_skeleton_rate, "runs at 30 frames a second, expected 25"),
    ],
)
def test_bad_files_are_a_sentence(
    damage: Callable[[Path], None], words: str, make_dataset: Callable[..., Path], make_backbone: Any, tmp_path: Path
) -> None:
    folder = make_dataset(tmp_path / "data", train=1, test=0)
    damage(folder)
    with pytest.raises(PrefkitError, match=words):
        encode_pairs(folder, read_pairs(folder, "train"), make_backbone(), tmp_path / "cache")


def test_bad_clips_are_a_sentence(make_dataset: Callable[..., Path], make_backbone: Any, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "data", train=1, test=0, latents=False)
    rows = read_pairs(folder, "train")
    clip = folder / rows[0]["chosen"]

    def encode() -> None:
        encode_pairs(folder, rows, make_backbone(), tmp_path / "cache")

    write_clip(clip, np.zeros((9, 16, 16, 3), np.uint8), 25.0)
    with pytest.raises(PrefkitError, match="has 9 frames, expected 5"):
        encode()
    write_clip(clip, np.zeros((5, 32, 16, 3), np.uint8), 25.0)
    with pytest.raises(PrefkitError, match="expected .16, 16. as small makes them"):
        encode()
    clip.unlink()
    with pytest.raises(PrefkitError, match="does not exist; build the pairs again"):
        encode()
    with pytest.raises(PrefkitError, match="has no skeleton"):
        encode_pairs(folder, [dict(rows[0]) | {"skeleton": None}], make_backbone(), tmp_path / "cache")
    with pytest.raises(PrefkitError, match="holds no preference dataset"):
        read_pairs(tmp_path / "nowhere", "train")
