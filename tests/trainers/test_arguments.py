import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefkit.errors import PrefkitError
from trainers.__main__ import run
from trainers.arguments import as_arguments, parse_run


def write(path: Path, **options: Any) -> str:
    path.write_text(yaml.safe_dump(options))
    return str(path)


def test_the_command_line_counts_more_than_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "run.yaml", dataset="pairs", output_dir=str(tmp_path), learning_rate="1e-3", beta=70)
    more = as_arguments({"beta": 80.5, "loss_type": ["robust", "sft"], "loss_weights": [1, 0.5], "use_cpu": True})
    what, config = parse_run([file, *more])
    assert what.dataset == "pairs" and what.backbone == "tiny"
    assert (config.beta, config.learning_rate, config.max_steps) == (80.5, 1e-3, -1)
    assert config.loss_type == ["robust", "sft"] and config.loss_weights == [1.0, 0.5]


@pytest.mark.parametrize(
    ("options", "arguments", "words"),
    [
        (
            {"lerning_rate": 1},
            [],
            "run.yaml has the option 'lerning_rate', which is none – did you mean 'learning_rate'",
        ),
        ({}, ["--betta", "3"], "no option 'betta' – did you mean 'beta'"),
        ({}, ["--beta", "three"], "the options cannot be read: .*beta.*invalid float"),
        ({}, ["--loss_type", "sigmoyd"], "did you mean 'sigmoid'"),
        ({}, ["--loss_weights", "1", "2"], "expected a number from 0 for each"),
    ],
)
def test_a_wrong_option_is_a_sentence(
    options: dict[str, Any], arguments: list[str], words: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "run.yaml", dataset="pairs", output_dir=str(tmp_path), **options)
    with pytest.raises(PrefkitError, match=words):
        parse_run([file, *arguments])


def test_a_wrong_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PrefkitError, match="cannot be read as YAML"):
        parse_run([str(tmp_path / "none.yaml")])
    (tmp_path / "list.yaml").write_text("- beta")
    with pytest.raises(PrefkitError, match="holds no mapping"):
        parse_run([str(tmp_path / "list.yaml")])
    with pytest.raises(PrefkitError, match="required: --dataset"):
        parse_run([write(tmp_path / "empty.yaml", output_dir="here")])


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_run(["--help"])
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in ("dataset", "beta", "loss_weights", "reference", "learning_rate"))


def test_a_file_trains(dataset_folder: Path, tmp_path: Path, small_run: dict[str, Any]) -> None:
    what = {"dataset": str(dataset_folder), "backbone": "conftest:SmallBackbone", "output_dir": str(tmp_path / "run")}
    file = write(tmp_path / "run.yaml", **(small_run | what))
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        record = run([file, "--max_steps", "2"])
    finally:
        sys.path.pop(0)
    assert record["finished"] and (tmp_path / "run" / "adapter" / "adapter.json").exists()
