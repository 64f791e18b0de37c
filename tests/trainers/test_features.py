"""What a run can do beside the plain step: windows, several losers, criteria, precision, stopping, samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prefkit.errors import PrefkitError
from prefkit.media import write_clip, write_image, write_wav
from trainers.config import DiffusionDPOConfig
from trainers.dataset import chosen_criteria, read_pairs
from trainers.draws import TrainingDraws, collate
from trainers.encoding import EncodedPairs, encode_pairs
from trainers.held_out import held_out_metrics
from trainers.train import train_dpo
from trainers.trainer import DiffusionDPOTrainer


@pytest.fixture
def config(small_run: dict[str, Any], tmp_path: Path) -> Any:
    return lambda **options: DiffusionDPOConfig(**(small_run | {"output_dir": str(tmp_path / "run")} | options))


# -- clips longer than the model takes


def long_pair(folder: Path, frames: int) -> dict[str, Any]:
    """A pair whose frames are as bright as their number; the portrait is white."""
    folder.mkdir()
    row = {name: None for name in ("prompt", "preference", "tie_probability", "frame_weights")}
    row |= {"pair_id": "long", "condition_id": "c", "criterion": "overall", "weight": 1.0, "num_frames": frames}
    row |= {"reference_image": "p.png", "audio": "s.wav", "skeleton": "k.mp4", "chosen_id": "a", "rejected_id": "b"}
    write_image(folder / "p.png", np.full((16, 16, 3), 255, np.uint8))
    write_wav(folder / "s.wav", np.repeat(np.arange(frames, dtype=np.int16) * 1000, 640))
    brightness = (np.arange(frames) * 15).astype(np.uint8)
    clip = np.broadcast_to(brightness[:, None, None, None], (frames, 16, 16, 3)).copy()
    for name in ("k.mp4", "a.mp4", "b.mp4"):
        clip[:, 0, 0] = ord(name[0])  # so that no two clips are the same
        write_clip(folder / name, clip, 25.0)
    kept = {"chosen_latents": None, "rejected_latents": None}
    return row | kept | {"chosen": "a.mp4", "rejected": "b.mp4"}


def test_windows_lie_at_the_same_place_in_both_with_the_portrait_as_context(make_backbone: Any, tmp_path: Path) -> None:
    row = long_pair(tmp_path / "data", 13)  # two windows of 5, three frames left over
    seen: list[tuple[str, Any]] = []
    backbone = make_backbone()
    encode_clip, encode_condition = backbone.encode_clip, backbone.encode_condition

    def clip(frames: np.ndarray) -> torch.Tensor:
        seen.append(("clip", [round(float(frame.mean()) / 15) for frame in frames]))
        return encode_clip(frames)

    def condition(portrait: np.ndarray, audio: np.ndarray, skeleton: np.ndarray, text: Any) -> Any:
        numbers = [round(float(frame.mean()) / 15) for frame in skeleton]
        seen.append(("condition", (int(portrait.mean()), numbers, int(audio[0]) // 1000, len(audio))))
        return encode_condition(portrait, audio, skeleton, text)

    backbone.encode_clip, backbone.encode_condition = clip, condition
    pairs = encode_pairs(tmp_path / "data", [row], backbone, tmp_path / "cache", max_windows=8)
    assert [one["pair_id"] for one in pairs.rows] == ["long", "long@5"]
    assert sum(one["weight"] for one in pairs.rows) == 1
    assert sorted(found for kind, found in seen if kind == "clip") == [[0, 1, 2, 3, 4]] * 2 + [[5, 6, 7, 8, 9]] * 2
    conditions = sorted((found for kind, found in seen if kind == "condition"), key=lambda found: found[2])
    assert conditions == [(255, [0, 1, 2, 3, 4], 0, 3200), (255, [5, 6, 7, 8, 9], 5, 3200)]
    assert len(encode_pairs(tmp_path / "data", [row], make_backbone(), tmp_path / "cache", max_windows=1)) == 1


# -- several losers per winner, several criteria


@pytest.fixture
def one_winner(dataset_folder: Path, make_backbone: Any, tmp_path: Path) -> EncodedPairs:
    """Six pairs, of which the first three have the same chosen clip."""
    rows = [dict(row) for row in read_pairs(dataset_folder, "train")[:6]]
    shared = ("condition_id", "chosen", "chosen_id", "chosen_latents", "reference_image", "audio", "skeleton")
    for row in rows[1:3]:
        row |= {name: rows[0][name] for name in shared}
    return encode_pairs(dataset_folder, rows, make_backbone(), tmp_path)


def test_losers_of_a_winner_share_its_forward_and_noise(
    one_winner: EncodedPairs, make_backbone: Any, config: Any
) -> None:
    draws = TrainingDraws(one_winner, seed=0, draws=1, low=0, high=1000, losers_per_winner=3)
    assert sorted(map(len, draws.groups)) == [1, 1, 1, 3]
    batch = collate([draws[index] for index in range(len(draws))])
    assert batch["chosen_latents"].shape[0] == 4 and batch["rejected_latents"].shape[0] == 6
    assert batch["weight"].mean() == pytest.approx(1)
    trainer = DiffusionDPOTrainer(make_backbone(), config(losers_per_winner=3, eval_strategy="no"), one_winner)
    together = trainer._errors(trainer.model, batch)
    group = next(index for index in range(len(draws)) if len(draws.place(index)[0]) == 3)
    item = draws[group]
    for number, pair in enumerate(item["pairs"]):
        alone = collate([item | {"pairs": [pair]}])
        place = [index for index, winner in enumerate(batch["winner"].tolist()) if winner == group][number]
        for side, error in zip(together, trainer._errors(trainer.model, alone), strict=True):
            assert side[place].item() == pytest.approx(error.item(), abs=1e-6)
    trainer.train()
    assert trainer.state.global_step == 6


def test_criteria_are_chosen_and_weighted(dataset_folder: Path) -> None:
    rows = [
        dict(row) | {"criterion": name} for row, name in zip(read_pairs(dataset_folder, "train"), "abc", strict=False)
    ]
    kept = chosen_criteria(rows, ["a", "c"], [1.0, 0.5])
    assert [
        (row["criterion"], row["weight"] / before["weight"]) for row, before in zip(kept, rows[::2], strict=True)
    ] == [
        ("a", 1.0),
        ("c", 0.5),
    ]
    with pytest.raises(PrefkitError, match="no pair is about 'd'"):
        chosen_criteria(rows, ["d"], None)


def test_held_out_accuracy_per_criterion_and_drift() -> None:
    errors = torch.tensor([[0.2, 0.4, 0.3, 0.3], [0.4, 0.2, 0.3, 0.3]])
    norms = torch.tensor([[2.0, 2.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0]])
    found = held_out_metrics(errors, torch.arange(2), [500.0], 10.0, ["lips", "face"], norms)
    assert (found["accuracies/lips"], found["accuracies/face"], found["norm_drift"]) == (1.0, 0.0, 2.0)


# -- precision and memory


def test_half_precision_begins_at_exactly_ln_2(
    dataset_folder: Path, make_backbone: Any, config: Any, tmp_path: Path
) -> None:
    record = train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config(bf16=True, max_steps=4))
    assert record["history"][0]["rewards/margins"] == 0
    assert all(np.isfinite(logged["loss"]) for logged in record["history"] if "loss" in logged)
    weights = make_backbone()
    assert all(value.dtype == torch.float32 for value in weights.model.state_dict().values())


def test_checkpointed_activations_change_no_gradient(
    dataset_folder: Path, make_checkpointing_backbone: Any, config: Any, tmp_path: Path
) -> None:
    plain = train_dpo(dataset_folder, tmp_path / "a", make_checkpointing_backbone(), config())
    backbone = make_checkpointing_backbone()
    saving = train_dpo(dataset_folder, tmp_path / "b", backbone, config(activation_checkpointing=True))
    assert backbone.model.gradient_checkpointing
    losses = [[logged["loss"] for logged in record["history"] if "loss" in logged] for record in (plain, saving)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_model_without_checkpointing_is_a_sentence(
    dataset_folder: Path, make_backbone: Any, config: Any, tmp_path: Path
) -> None:
    with pytest.raises(PrefkitError, match="SmallDenoiser has no gradient checkpointing"):
        train_dpo(dataset_folder, tmp_path / "a", make_backbone(), config(activation_checkpointing=True))


# -- stopping early, looking at clips


def test_it_stops_when_held_out_accuracy_no_longer_grows_and_keeps_the_best(
    dataset_folder: Path, make_backbone: Any, config: Any, tmp_path: Path
) -> None:
    options = {"max_steps": 40, "eval_steps": 2, "save_steps": 2, "early_stopping_patience": 2}
    record = train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config(**options))
    accuracies = [logged["eval_implicit_accuracy"] for logged in record["history"] if "eval_loss" in logged]
    steps = max(logged["step"] for logged in record["history"])
    assert record["finished"] and steps < 40
    assert max(accuracies[:-2]) >= max(accuracies[-2:])
    assert train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config(**options)) == record


def test_clips_are_sampled_and_scored_on_the_way(
    dataset_folder: Path, make_backbone: Any, config: Any, tmp_path: Path
) -> None:
    asked: list[tuple[int, list[str]]] = []

    def sample(backbone: Any, step: int, rows: Sequence[Any]) -> dict[str, float]:
        asked.append((step, [row["condition_id"] for row in rows]))
        return {"sync": step / 10}

    options = config(sample_steps=2, sample_pairs=2)
    record = train_dpo(dataset_folder, tmp_path / "run", make_backbone(), options, sample_hook=sample)
    assert asked == [(step, ["test0", "test1"]) for step in (2, 4, 6)]
    assert [logged["step"] for logged in record["history"] if "loss" in logged] == [1, 2, 3, 4, 5, 6]
    assert [logged["samples/sync"] for logged in record["history"] if "samples/sync" in logged] == [0.2, 0.4, 0.6]


def test_curves_go_to_tensorboard(dataset_folder: Path, make_backbone: Any, config: Any, tmp_path: Path) -> None:
    train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config(report_to="tensorboard", max_steps=2))
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
