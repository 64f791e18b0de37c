import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prefkit.errors import PrefkitError
from trainers.config import DiffusionDPOConfig
from trainers.dataset import read_pairs
from trainers.draws import collate
from trainers.encoding import encode_pairs
from trainers.trainer import DiffusionDPOTrainer

Make = Callable[..., DiffusionDPOTrainer]


@pytest.fixture
def make_trainer(dataset_folder: Path, make_backbone: Any, tmp_path: Path, small_run: dict[str, Any]) -> Make:
    def make(weights_hash: str = "5ma11", **options: Any) -> DiffusionDPOTrainer:
        backbone = make_backbone(weights_hash=weights_hash)
        pairs = [
            encode_pairs(dataset_folder, read_pairs(dataset_folder, split), backbone, tmp_path / "cache")
            for split in ("train", "test")
        ]
        config = DiffusionDPOConfig(**(small_run | {"output_dir": str(tmp_path / "run")} | options))
        return DiffusionDPOTrainer(backbone, config, *pairs, cache_folder=tmp_path / "cache", dataset_fingerprint="d")

    return make


def trained(trainer: DiffusionDPOTrainer) -> dict[str, torch.Tensor]:
    model = trainer.backbone.model
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("use_peft", [True, False])
def test_cached_numbers_stand_for_the_live_reference(make_trainer: Make, use_peft: bool) -> None:
    live = make_trainer(use_peft=use_peft, save_strategy="no")
    live.train()
    cached = make_trainer(use_peft=use_peft, save_strategy="no", reference="cached")
    assert cached.reference is None
    cached.train()
    assert cached.state.log_history[0]["rewards/accuracies"] == pytest.approx(0.5, abs=0.5)
    for name, value in trained(live).items():
        torch.testing.assert_close(value, trained(cached)[name], rtol=0, atol=1e-5)


def test_the_untuned_policy_equals_the_cache_in_any_batch(make_trainer: Make) -> None:
    trainer = make_trainer(reference="cached")
    for size in (1, 3, 8):
        batch = collate([trainer.train_dataset[index] for index in range(size)])
        with torch.no_grad():
            errors = trainer._errors(trainer.model, batch)
        difference = torch.stack(errors, 1) - batch["reference_errors"]
        assert (2500 * (difference[:, 1] - difference[:, 0])).abs().max() <= 1e-3


def test_the_cache_is_made_once_and_goes_on_where_it_was_interrupted(
    make_trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(reference="cached")
    parts = sorted((tmp_path / "cache").glob("reference-*/part-*.arrow"))
    assert len(parts) == 2  # training draws and the held-out grid
    measure, measured = DiffusionDPOTrainer._measure_untuned, []

    def counted(trainer: DiffusionDPOTrainer, batch: Any) -> torch.Tensor:
        measured.append(len(batch["timestep"]))
        return measure(trainer, batch)

    monkeypatch.setattr(DiffusionDPOTrainer, "_measure_untuned", counted)
    make_trainer(reference="cached")
    assert measured == []
    make_trainer(reference="cached", max_steps=8)  # two steps of four more
    assert measured == [4, 4]
    parts[0].unlink()
    make_trainer(reference="cached")
    assert sum(measured) > 8


def test_numbers_of_other_weights_are_not_used(make_trainer: Make, tmp_path: Path) -> None:
    make_trainer(reference="cached")
    make_trainer(reference="cached", weights_hash="another")
    folders = sorted((tmp_path / "cache").glob("reference-*"))
    assert len(folders) == 2
    about = json.loads((folders[0] / "about.json").read_text())
    (folders[0] / "about.json").write_text(json.dumps(about | {"weights": "somebody's"}))
    with pytest.raises(PrefkitError, match="for another weights than this run's"):
        make_trainer(reference="cached", weights_hash=about["weights"])


def test_a_damaged_cache_is_a_sentence(make_trainer: Make, tmp_path: Path) -> None:
    make_trainer(reference="cached")
    next((tmp_path / "cache").glob("reference-*/part-*.arrow")).write_bytes(b"no arrow")
    with pytest.raises(PrefkitError, match="cannot be read .* its numbers are made again"):
        make_trainer(reference="cached")


@pytest.mark.parametrize("use_peft", [True, False])
def test_a_synced_reference_follows_the_policy_and_resumes(make_trainer: Make, tmp_path: Path, use_peft: bool) -> None:
    options = {"reference": "synced", "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.5, "use_peft": use_peft}
    straight = make_trainer(**options)
    before = {name: value.clone() for name, value in straight.reference.state_dict().items()}  # type: ignore[union-attr]
    straight.train()
    after = straight.reference.state_dict()  # type: ignore[union-attr]
    policy = straight.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(policy[name], after[name]) for name in before)
    resumed = make_trainer(**options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    for name, value in trained(straight).items():
        torch.testing.assert_close(value, trained(resumed)[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reference": "cashed"}, "did you mean 'cached'"),
        ({"reference": "adapter_off", "use_peft": False}, "needs a LoRA adapter"),
        ({"ref_model_mixup_alpha": 0.0}, "ref_model_mixup_alpha is 0"),
    ],
)
def test_a_wrong_reference_is_a_sentence(options: dict[str, Any], words: str, small_run: dict[str, Any]) -> None:
    with pytest.raises(PrefkitError, match=words):
        DiffusionDPOConfig(**(small_run | {"output_dir": "unused"} | options))
