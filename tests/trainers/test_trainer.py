import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from prefkit.backbones.adapters import has_adapter, load_adapter, remove_adapter
from prefkit.errors import PrefkitError
from trainers.config import DiffusionDPOConfig, computed_options
from trainers.dataset import read_pairs
from trainers.encoding import encode_pairs
from trainers.held_out import held_out_metrics
from trainers.train import train_dpo
from trainers.trainer import DiffusionDPOTrainer

SMALL: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def _small(small_run: dict[str, Any]) -> None:
    SMALL.update(small_run)


def config(**options: Any) -> DiffusionDPOConfig:
    return DiffusionDPOConfig(**(SMALL | {"output_dir": "unused"} | options))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_trainer(dataset_folder: Path, cache: Path, make_backbone: Any, tmp_path: Path) -> Any:
    def make(**options: Any) -> DiffusionDPOTrainer:
        backbone = make_backbone()
        pairs = [
            encode_pairs(dataset_folder, read_pairs(dataset_folder, split), backbone, cache)
            for split in ("train", "test")
        ]
        return DiffusionDPOTrainer(backbone, config(output_dir=str(tmp_path / "run"), **options), *pairs)

    return make


def weights(backbone: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in backbone.model.state_dict().items()}


def trained(backbone: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in backbone.model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("use_peft", [True, False])
def test_it_learns_what_is_preferred_and_leaves_the_reference_alone(make_trainer: Any, use_peft: bool) -> None:
    trainer = make_trainer(max_steps=30, use_peft=use_peft, eval_steps=30, save_strategy="no")
    before = {name.replace(".base_layer", ""): value for name, value in weights(trainer.backbone).items()}
    before = {name: value for name, value in before.items() if "lora" not in name}
    trainer.train()
    history = trainer.state.log_history
    first_weights = [trainer.train_dataset[index]["pairs"][0]["weight"] for index in range(4)]
    assert history[0]["loss"] == pytest.approx(math.log(2) * sum(first_weights) / 4, abs=1e-5)
    assert history[0]["rewards/accuracies"] == 0.5
    assert history[0]["rewards/margins"] == 0
    held_out = next(logged for logged in history if "eval_loss" in logged)
    assert held_out["eval_implicit_accuracy"] == 1.0
    assert held_out["eval_loss"] < 0.6
    assert held_out["eval_rewards/margins"] > 0
    assert {"eval_accuracies/t125", "eval_accuracies/t875", "eval_errors/rejected"} <= held_out.keys()
    if use_peft:
        assert all("lora" in name for name in trained(trainer.backbone))
        remove_adapter(trainer.backbone)
        after = weights(trainer.backbone)
    else:
        after = {name.removeprefix("model."): value for name, value in trainer.reference.state_dict().items()}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_supervised_fine_tuning_lowers_the_chosen_error(make_trainer: Any) -> None:
    trainer = make_trainer(objective="sft", max_steps=30, eval_steps=10, save_strategy="no")
    trainer.train()
    held_out = [logged["eval_errors/chosen"] for logged in trainer.state.log_history if "eval_loss" in logged]
    assert held_out[-1] < held_out[0]
    assert "rewards/margins" not in trainer.state.log_history[0]


@pytest.mark.parametrize("use_peft", [True, False])
def test_a_resumed_run_equals_one_never_stopped(make_trainer: Any, use_peft: bool, tmp_path: Path) -> None:
    straight = make_trainer(use_peft=use_peft)
    straight.train()
    resumed = make_trainer(use_peft=use_peft)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    one, other = trained(straight.backbone), trained(resumed.backbone)
    assert one.keys() == other.keys() and one
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)
    logs = [[logged for logged in trainer.state.log_history if logged["step"] == 6] for trainer in (straight, resumed)]
    assert logs[0][0]["rewards/margins"] == pytest.approx(logs[1][0]["rewards/margins"], abs=1e-6)


def test_accumulated_batches_equal_one_batch(make_trainer: Any) -> None:
    whole = make_trainer(max_steps=3, save_strategy="no", max_grad_norm=0)
    whole.train()
    pieces = make_trainer(
        max_steps=3, save_strategy="no", max_grad_norm=0, per_device_train_batch_size=1, gradient_accumulation_steps=4
    )
    pieces.train()
    for name, value in trained(whole.backbone).items():
        torch.testing.assert_close(value, trained(pieces.backbone)[name], rtol=0, atol=1e-5)


def test_held_out_metrics_of_a_worked_example() -> None:
    # two pairs at two timesteps; margins 0.3, -0.1 (mean above zero) and 0, -0.2
    errors = torch.tensor([[0.2, 0.5, 0.3, 0.3], [0.4, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3], [0.5, 0.3, 0.3, 0.3]])
    found = held_out_metrics(errors, torch.arange(4), [250.0, 750.0], beta=10.0)
    assert found["implicit_accuracy"] == 0.5
    assert found["accuracies/t250"] == 0.75
    assert found["accuracies/t750"] == 0.0
    assert found["rewards/margins"] == pytest.approx(0.0, abs=1e-6)


def test_train_dpo_records_the_run_and_does_not_repeat_it(
    dataset_folder: Path, make_backbone: Any, tmp_path: Path
) -> None:
    backbone = make_backbone()
    record = train_dpo(dataset_folder, tmp_path / "run", backbone, config())
    assert record == json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["finished"]
    assert record["counts"] == {"train_pairs": 10, "test_pairs": 4, "sources": {"simulated": 14}}
    assert [logged["step"] for logged in record["history"] if "loss" in logged] == [1, 2, 3, 4, 5, 6]
    assert [logged["step"] for logged in record["history"] if "eval_loss" in logged] == [3, 6]
    assert record["config"]["beta"] == 50.0

    again = make_backbone()
    assert train_dpo(dataset_folder, tmp_path / "run", again, config()) == record
    assert again.encoded == [] and not has_adapter(again)
    with pytest.raises(PrefkitError, match="holds a run with other options"):
        train_dpo(dataset_folder, tmp_path / "run", again, config(beta=60.0))
    with pytest.raises(PrefkitError, match="already has an adapter"):
        train_dpo(dataset_folder, tmp_path / "other", backbone, config())

    noisy, condition = torch.randn(1, 8, 2, 4, 4), {"condition": torch.randn(1, 4)}
    timestep = torch.tensor([500.0])
    base = again.predict(noisy, timestep, condition)
    assert load_adapter(again, tmp_path / "run" / "adapter") == record["adapter_hash"]
    tuned = again.predict(noisy, timestep, condition)
    assert torch.equal(tuned, backbone.predict(noisy, timestep, condition))
    assert not torch.allclose(tuned, base)
    remove_adapter(again)
    assert torch.equal(again.predict(noisy, timestep, condition), base)
    with pytest.raises(PrefkitError, match="was made for small 5ma11, not for small 0ther"):
        load_adapter(make_backbone(weights_hash="0ther"), tmp_path / "run" / "adapter")


def test_the_adapter_file_is_what_diffusers_reads(dataset_folder: Path, make_backbone: Any, tmp_path: Path) -> None:
    backbone = make_backbone()
    train_dpo(dataset_folder, tmp_path / "run", backbone, config(max_steps=2))
    file = tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors"
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["lora_adapter_metadata"])["transformer.lora_alpha"] == 8
    other = make_backbone()
    other.model.load_lora_adapter(str(file.parent), weight_name=file.name)
    noisy, condition = torch.randn(1, 8, 2, 4, 4), {"condition": torch.randn(1, 4)}
    timestep = torch.tensor([300.0])
    torch.testing.assert_close(
        other.predict(noisy, timestep, condition), backbone.predict(noisy, timestep, condition), rtol=0, atol=1e-6
    )


def test_an_interrupted_run_goes_on(
    dataset_folder: Path, make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_dpo(dataset_folder, tmp_path / "straight", make_backbone(), config())

    step = DiffusionDPOTrainer.training_step

    def stop_at_the_fifth_step(trainer: DiffusionDPOTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if trainer.state.global_step == 4:
            raise KeyboardInterrupt
        return step(trainer, *args, **kwargs)

    monkeypatch.setattr(DiffusionDPOTrainer, "training_step", stop_at_the_fifth_step)
    with pytest.raises(KeyboardInterrupt):
        train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config())
    assert not json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
    monkeypatch.setattr(DiffusionDPOTrainer, "training_step", step)
    half_written = tmp_path / "run" / "checkpoint-4"
    half_written.mkdir()
    (half_written / "trainer_state.json").write_text("{")
    resumed = train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config())
    assert resumed["finished"]
    assert [logged["step"] for logged in resumed["history"] if "loss" in logged] == [1, 2, 3, 4, 5, 6]
    assert resumed["adapter_hash"] == straight["adapter_hash"]


def test_a_termination_signal_saves_a_checkpoint(
    dataset_folder: Path, make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DiffusionDPOTrainer.training_step

    def told_to_end(trainer: DiffusionDPOTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if trainer.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, *args, **kwargs)

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(DiffusionDPOTrainer, "training_step", told_to_end)
    with pytest.raises(PrefkitError, match="after step 2 of 6"):
        train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config())
    assert (tmp_path / "run" / "checkpoint-2" / "pytorch_lora_weights.safetensors").exists()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config())["finished"]


def test_no_layer_to_adapt_is_a_sentence(dataset_folder: Path, make_backbone: Any, tmp_path: Path) -> None:
    with pytest.raises(PrefkitError, match="SmallDenoiser has no layers named nowhere"):
        train_dpo(dataset_folder, tmp_path / "run", make_backbone(), config(lora_target_modules=["nowhere"]))
    assert not (tmp_path / "run" / "adapter").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objective": "dpa"}, "did you mean 'dpo'"),
        ({"loss_type": "hing"}, "did you mean 'hinge'"),
        ({"timestep_low": 900.0, "timestep_high": 100.0}, "timestep_low < timestep_high"),
        ({"draws": 0}, "draws is 0"),
        ({"beta": -1.0}, "beta is -1"),
    ],
)
def test_a_wrong_option_is_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrefkitError, match=words):
        config(**options)


def test_what_identifies_a_run_leaves_out_where_it_lives() -> None:
    assert computed_options(config(output_dir="here")) == computed_options(config(output_dir="there", report_to="none"))
    assert computed_options(config(seed=1)) != computed_options(config(seed=2))
