"""The command line with the full-size backbones, tiny: sample, then training on what was sampled."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from prefkit.backbones.catalogue import load_backbone
from prefkit.cli import app
from prefkit.importing.conditions import add_conditions
from prefkit.media import write_clip, write_image, write_wav
from prefkit.tables import CANDIDATES, CONDITIONS, PAIRS
from prefkit.workspace import Workspace
from trainers.config import DiffusionDPOConfig
from trainers.train import train_dpo


@pytest.fixture
def checkpoint(backbone, tmp_path):
    save = backbone.pipeline if backbone.name == "hallo4" else backbone
    save.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def test_a_backbone_samples_by_name_and_trains_on_its_clips(backbone, condition, checkpoint, tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    for name in ("anna", "ben"):
        place = tmp_path / "source" / name
        write_image(place / "portrait.png", condition["portrait"])
        write_wav(place / "speech.wav", condition["audio"])
        write_clip(place / "skeleton.mp4", condition["skeleton"], 25)
    add_conditions(workspace, tmp_path / "source")
    options = ["--backbone", backbone.name, "--checkpoint", str(checkpoint), "--per-condition", "2", "--steps", "1"]
    said = CliRunner().invoke(app, ["sample", str(workspace.root), *options])
    assert said.exit_code == 0, said.output
    clips = workspace.rows(CANDIDATES)
    assert len(clips) == 4 and all(row["generator"] == backbone.name and row["num_frames"] == 9 for row in clips)

    dataset = write_pairs(workspace, clips, tmp_path / "pairs")
    config = DiffusionDPOConfig(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=1,
        gradient_checkpointing=True,
        use_cpu=True,
    )
    record = train_dpo(dataset, tmp_path / "run", load_backbone(backbone.name, checkpoint), config)
    assert record["finished"] and record["backbone"]["weights_hash"] == backbone.weights_hash
    assert (tmp_path / "run" / "adapter" / "pytorch_lora_weights.safetensors").is_file()
    if backbone.name == "hallo4":
        backbone.pipeline.load_lora_weights(tmp_path / "run" / "adapter")
        assert backbone.pipeline.get_list_adapters()["transformer"]


def write_pairs(workspace, clips, folder):
    """The two clips of each condition, the first preferred; one condition trains and one is held out."""
    os.symlink(workspace.root, folder)
    (folder / "pairs").mkdir()
    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    for split, (chosen, rejected) in zip(("train", "test"), (clips[:2], clips[2:]), strict=True):
        condition = conditions[chosen["condition_id"]]
        row = {name: condition[name] for name in ("identity", "reference_image", "audio", "skeleton")} | {
            "pair_id": split,
            "condition_id": condition["condition_id"],
            "fps": 25.0,
            "num_frames": 9,
            "chosen": chosen["clip"],
            "rejected": rejected["clip"],
            "chosen_id": chosen["candidate_id"],
            "rejected_id": rejected["candidate_id"],
            "chosen_latents": chosen["latents"],
            "rejected_latents": rejected["latents"],
            "criterion": "overall",
            "preference": 1.0,
            "tie_probability": 0.0,
            "weight": 1.0,
            "num_votes": 1,
            "agreement": 1.0,
            "source": "simulated",
            "split": split,
        }
        pq.write_table(pa.Table.from_pylist([row], schema=PAIRS.schema), folder / "pairs" / f"{split}.parquet")
    return folder
