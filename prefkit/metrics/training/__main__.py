"""`python -m prefkit.metrics.training landmarks|lipsync`: trains a network and writes it with its model card."""

import argparse
import dataclasses
import platform
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import torch

from prefkit.backbones.autoencoder import PatchAutoencoder
from prefkit.metrics.landmark_network import LandmarkNetwork
from prefkit.metrics.syncnet import SyncNet
from prefkit.metrics.training.clips import (
    HELD_OUT_SEEDS,
    TRAINING_SEEDS,
    TrainingClips,
    cached_clips,
    fit_autoencoder,
    make_clips,
)
from prefkit.metrics.training.landmarks import evaluate_landmark_network, train_landmark_network
from prefkit.metrics.training.lipsync import evaluate_lipsync_network, train_lipsync_network
from prefkit.metrics.weights import SHIPPED, file_hash, save_weights
from prefkit.workspace import atomic_write

TITLES = {
    "landmarks": "Landmark network for synthetic portraits",
    "lipsync": "Lip-sync network for synthetic portraits",
}
CARD = """# {title}

Reads {reads}.
It was trained on nothing but the portraits that `prefkit.synthetic` draws, blurred, recoloured and compressed.
**It says nothing about real faces**: metrics use it only for conditions with known synthetic truth.

| | |
|---|---|
| command | `{command}` |
| portraits | {clips} clips of 50 frames, seeds from {first_seed} |
| steps | {steps} |
| seconds | {seconds:.0f} for training, {drawing:.0f} for drawing the portraits or reading those kept from before |
| machine | {machine}, {threads} thread(s), torch {torch} |
| parameters | {parameters:,} |
| loss | {first_loss:.3f} at the start, {last_loss:.3f} over the last tenth ({loss_name}) |
| sha256 (start) | `{hash}` |

On {held_out} portraits it never saw (seeds from {held_out_seed}):

| | |
|---|---|
{figures}
"""


def main() -> None:
    """Parses the command line, trains, evaluates and writes `model.safetensors` and `README.md`."""
    parser = argparse.ArgumentParser(prog="python -m prefkit.metrics.training", description=__doc__)
    parser.add_argument("network", choices=sorted(TITLES))
    parser.add_argument("--clips", type=int, default=1200, help="portraits to draw")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=60, help="portraits to evaluate on")
    parser.add_argument("--keep", type=Path, help="file (npz) that keeps the drawn portraits for the next time")
    parser.add_argument("--output", type=Path, help="folder to write to; default: the weights that ship with prefkit")
    options = parser.parse_args()

    started = time.perf_counter()
    drawn = (TRAINING_SEEDS, options.clips)
    clips = cached_clips(options.keep, *drawn) if options.keep else make_clips(*drawn)
    held_out = make_clips(HELD_OUT_SEEDS, options.held_out)
    autoencoder = fit_autoencoder(clips.frames[:40])
    training = time.perf_counter()
    train = _train_landmarks if options.network == "landmarks" else _train_lipsync
    trained = train(clips, held_out, autoencoder, options.steps, options.seed)
    network = trained.network

    folder = options.output or SHIPPED / options.network
    save_weights(folder / "model.safetensors", network.state_dict(), dataclasses.asdict(network.config))
    card = CARD.format(
        title=TITLES[options.network],
        reads=trained.reads,
        command="python -m prefkit.metrics.training " + shlex.join(sys.argv[1:]),
        clips=options.clips,
        first_seed=TRAINING_SEEDS,
        steps=options.steps,
        seconds=time.perf_counter() - training,
        drawing=training - started,
        machine=platform.machine(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        first_loss=trained.losses[0],
        last_loss=float(np.mean(trained.losses[-max(1, len(trained.losses) // 10) :])),
        loss_name=trained.loss_name,
        hash=file_hash(folder / "model.safetensors"),
        held_out=options.held_out,
        held_out_seed=HELD_OUT_SEEDS,
        figures="\n".join(f"| {name} | {value:.3f} |" for name, value in trained.figures.items()),
    )
    with atomic_write(folder / "README.md") as temporary:
        temporary.write_text(card)
    print(card)


@dataclasses.dataclass(frozen=True)
class _Trained:
    network: LandmarkNetwork | SyncNet
    losses: list[float]
    figures: dict[str, float]
    reads: str
    loss_name: str


def _train_landmarks(
    clips: TrainingClips, held_out: TrainingClips, autoencoder: PatchAutoencoder, steps: int, seed: int
) -> _Trained:
    network, losses = train_landmark_network(clips, autoencoder, steps=steps, seed=seed)
    return _Trained(
        network,
        losses,
        evaluate_landmark_network(network, held_out, autoencoder),
        reads="68 landmarks (iBUG order) from 64 × 64 frames",
        loss_name="L1 in pixels plus 0.3 of the squared error of openings and brow heights",
    )


def _train_lipsync(
    clips: TrainingClips, held_out: TrainingClips, autoencoder: PatchAutoencoder, steps: int, seed: int
) -> _Trained:
    network, losses = train_lipsync_network(clips, autoencoder, steps=steps, seed=seed)
    return _Trained(
        network,
        losses,
        evaluate_lipsync_network(network, held_out, autoencoder),
        reads="how well lips follow the sound from the mouth region of 64 × 64 frames, in SyncNet's form",
        loss_name="InfoNCE over 24 windows of a clip; chance is 3.178",
    )


if __name__ == "__main__":
    main()
