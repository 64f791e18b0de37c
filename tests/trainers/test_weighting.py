import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainers.weighting
from prefkit.errors import PrefkitError
from trainers.dataset import read_pairs
from trainers.draws import TrainingDraws, collate
from trainers.encoding import encode_pairs
from trainers.weighting import frame_weight_map, region_map


def test_docstring_examples() -> None:
    assert doctest.testmod(trainers.weighting).failed == 0


def test_frame_weights_must_fit() -> None:
    with pytest.raises(PrefkitError, match="expected one from 0 for each frame"):
        frame_weight_map([1.0], 2)
    with pytest.raises(PrefkitError, match="expected one from 0 for each frame"):
        frame_weight_map([0.0] * 5, 2)


def test_regions_follow_their_points_in_space_and_time() -> None:
    points = np.full((5, 18, 3), np.nan)
    points[0, [4, 7], :2] = 8.0  # both hands at the top left of 64 × 64, seen in the first frame alone
    found = region_map(points, {"hands": 3.0}, (64, 64), (16, 2, 8, 8))
    assert found.shape == (1, 2, 8, 8)
    assert found[0, 0, 1, 1] == 3 and found[0, 0, 5, 5] == 1
    assert (found[0, 1] == 1).all()


def test_the_mouth_lies_in_the_face_and_below_the_nose() -> None:
    points = np.zeros((5, 18, 3))
    points[:, 0, :2], points[:, 1, :2] = (32, 28), (32, 52)
    points[:, [14, 15, 16, 17], :2] = [(26, 22), (38, 22), (20, 26), (44, 26)]
    found = region_map(points, {"face": 2.0, "mouth": 5.0}, (64, 64), (16, 2, 16, 16))[0, 0]
    rows, columns = torch.nonzero(found == 5, as_tuple=True)
    assert rows.min() >= 7 and 6 <= columns.min() and columns.max() <= 9
    assert found[6, 6] == 2 and found[15, 0] == 1


def test_landmarks_say_nothing_of_hands() -> None:
    with pytest.raises(ValueError, match="68 points do not say where the hands is"):
        region_map(np.zeros((5, 68, 2)), {"hands": 2.0}, (64, 64), (16, 2, 8, 8))


def test_maps_of_time_and_space_multiply_and_reach_the_batch(
    dataset_folder: Path, make_backbone: Any, tmp_path: Path
) -> None:
    rows = [dict(row) for row in read_pairs(dataset_folder, "train")[:2]]
    rows[0]["frame_weights"] = [1.0, 2.0, 2.0, 4.0, 4.0]

    def left_half(row: Any, shape: tuple[int, ...]) -> torch.Tensor:
        found = torch.ones(1, 1, 1, shape[3])
        found[..., : shape[3] // 2] = 2
        return found

    pairs = encode_pairs(dataset_folder, rows, make_backbone(), tmp_path, weight_map=left_half)
    assert pairs[0]["loss_map"][0, :, 0].tolist() == [[2, 2, 1, 1], [6, 6, 3, 3]]
    draws = TrainingDraws(pairs, seed=0, draws=1, low=0, high=1000)
    batch = collate([draws[index] for index in range(2)])
    assert batch["loss_map"].shape == (2, 1, 2, 4, 4)


def test_a_map_moves_training_and_an_even_one_does_not(
    dataset_folder: Path, make_backbone: Any, tmp_path: Path, small_run: dict[str, Any]
) -> None:
    from trainers.config import DiffusionDPOConfig
    from trainers.train import train_dpo

    def even(row: Any, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.full((1, *shape[1:]), 0.5)

    def first_frame(row: Any, shape: tuple[int, ...]) -> torch.Tensor:
        found = torch.zeros(1, *shape[1:])
        found[:, 0] = 1
        return found

    def train(name: str, weight_map: Callable[..., torch.Tensor] | None) -> list[float]:
        config = DiffusionDPOConfig(**(small_run | {"output_dir": "unused", "save_strategy": "no"}))
        record = train_dpo(
            dataset_folder, tmp_path / name, make_backbone(), config, cache_folder=tmp_path / "c", weight_map=weight_map
        )
        assert record["weight_map"] == (weight_map.__name__ if weight_map else None)
        return [logged["loss"] for logged in record["history"] if "loss" in logged]

    plain = train("plain", None)
    assert train("even", even) == pytest.approx(plain, rel=1e-4)
    assert train("first", first_frame) != pytest.approx(plain, rel=1e-4)
