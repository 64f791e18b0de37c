"""Pretrains the tiny model that ships, from nothing, on synthetic portraits.

    python -m trainers.pretraining

Stops and resumes where it was; when all steps are done it writes the weights and their model card into
the package. The model is meant to be imperfect as real base models are: for part of the clips the
speech is shifted or dropped, or the skeleton is late, so that lip-sync and skeleton following vary with
the seed of a sample.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Template

from prefkit.backbones.audio_features import CHANNELS, window_features
from prefkit.backbones.autoencoder import PatchAutoencoder
from prefkit.backbones.tiny import SHIPPED, TinyBackbone
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.progress import track
from prefkit.workspace import atomic_write
from trainers.pretraining_data import LAG, fit_autoencoder, prepare

FRAMES = 25


@dataclass(frozen=True)
class Recipe:
    """Everything the result depends on."""

    clips: int = 4000
    steps: int = 6_000
    batch: int = 8
    learning_rate: float = 2e-3
    # (step, share of the learning rate), straight lines between
    schedule: tuple[tuple[int, float], ...] = ((0, 0.0), (300, 1.0), (3_000, 0.69), (6_000, 0.0))
    ema: float = 0.999
    shifted_speech: float = 0.30  # share of samples whose sound is 2 to 6 frames off
    dropped_speech: float = 0.10
    late_skeleton: float = 0.20  # share of samples whose skeleton is 1 to 3 frames off
    seed: int = 0


@dataclass
class Progress:
    """What a checkpoint remembers besides tensors."""

    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)


def build_model(latent_channels: int) -> PortraitWanTransformer3DModel:
    """Hallo4's structure at 128 channels, five blocks and one VACE block."""
    return PortraitWanTransformer3DModel(
        num_attention_heads=4, attention_head_dim=32, num_layers=5, vace_layers=(0,), ffn_dim=384, freq_dim=64,
        in_channels=latent_channels, out_channels=latent_channels, vace_in_channels=latent_channels,
        skeleton_channels=latent_channels, text_dim=16, rope_max_seq_len=32,
        audio_window=5, audio_blocks=1, audio_channels=CHANNELS, audio_hidden_dim=128, audio_context_tokens=2,
    )  # fmt: skip


def prepare_data(folder: Path, recipe: Recipe, workers: int) -> tuple[dict[str, torch.Tensor], PatchAutoencoder]:
    """Fits the autoencoder and encodes the portraits, as far as `folder` does not have them."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "autoencoder").exists():
        fit_autoencoder().save_pretrained(folder / "autoencoder")
    data = prepare(folder / "data", folder / "autoencoder", recipe.clips, workers)
    return data, PatchAutoencoder.from_pretrained(folder / "autoencoder")


def build_tiny(autoencoder: PatchAutoencoder) -> TinyBackbone:
    """The tiny model, untrained."""
    return TinyBackbone(build_model(autoencoder.config.latent_channels), autoencoder)


def pretrain(
    folder: Path,
    recipe: Recipe,
    data: dict[str, torch.Tensor],
    autoencoder: PatchAutoencoder,
    build: Callable[[PatchAutoencoder], TinyBackbone] = build_tiny,
) -> Progress:
    """Trains what `build` makes until `recipe.steps`, saving to `folder` as it goes; its weights end in average/."""
    # --- model and optimiser
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    backbone = build(autoencoder)
    model = backbone.model.train()
    average: Any = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.ema)
    )
    optimiser = torch.optim.AdamW(model.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _learning_rate(step, recipe))
    parts: dict[str, Any] = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}

    # --- resume
    checkpoint = folder / "checkpoint.pt"
    progress = Progress()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["recipe"] != asdict(recipe):
            raise SystemExit(f"{checkpoint} was made by {state['recipe']}; remove it to start anew")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        progress = Progress(**state["progress"])

    # --- train
    running, started = 0.0, time.monotonic()
    for step in track(range(progress.step, recipe.steps), "pretraining"):
        loss = training_loss(backbone, data, recipe, step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        running += loss.item()
        if (step + 1) % 100 == 0:
            progress.losses.append((step + 1, running / 100))
            print(
                f"step {step + 1}: loss {running / 100:.4f}, {(time.monotonic() - started) / 100:.3f} s a step",
                flush=True,
            )
            progress.step, running = step + 1, 0.0
            progress.seconds += time.monotonic() - started
            started = time.monotonic()
        if (step + 1) % 500 == 0:
            states = {name: part.state_dict() for name, part in parts.items()}
            with atomic_write(checkpoint) as temporary:
                torch.save(states | {"recipe": asdict(recipe), "progress": asdict(progress)}, temporary)
            average.module.save_pretrained(folder / "average")
    average.module.save_pretrained(folder / "average")
    return progress


def training_loss(backbone: TinyBackbone, data: dict[str, torch.Tensor], recipe: Recipe, step: int) -> torch.Tensor:
    """Flow matching on one batch, drawn from (seed, step) alone; mouth and eyes weigh more."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    rows = torch.randint(len(data["latents"]), (recipe.batch,), generator=generator)
    latents, reference = data["latents"][rows].float(), data["reference"][rows].float()
    noise = torch.randn(latents.shape, generator=generator)
    # logit-normal, towards noise, where pose and lip-sync are decided
    sigma = torch.sigmoid(0.8 + 1.0 * torch.randn(recipe.batch, generator=generator)).view(-1, 1, 1, 1, 1)
    noisy = (1 - sigma) * latents + sigma * noise
    conditioning = {
        "reference": reference,
        "skeleton": _skeleton(data["skeleton"][rows].float(), recipe, generator),
        "speech": _speech(data["audio"][rows].float(), recipe, generator),
    }
    velocity = backbone.predict(noisy, 1000 * sigma.flatten(), conditioning)
    weight = data["weight"][rows].float()
    return (weight * (velocity - (noise - latents)) ** 2).mean() / weight.mean()


def _speech(audio: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """[B, 25 + 2 · LAG, C] -> [B, 25, window, 1, C], for some samples shifted or silent."""
    clips = []
    for features in audio:
        lag = int(torch.randint(2, 7, (), generator=generator)) * (1 if _chance(0.5, generator) else -1)
        lag = lag if _chance(recipe.shifted_speech, generator) else 0
        clip = features[LAG - lag : LAG - lag + FRAMES]
        clips.append(torch.zeros_like(clip) if _chance(recipe.dropped_speech, generator) else clip)
    return window_features(torch.stack(clips)).unsqueeze(3)


def _skeleton(latents: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """[B, C, 25, h, w], for some samples a few frames late or early."""
    clips = []
    for clip in latents:
        lag = int(torch.randint(1, 4, (), generator=generator)) * (1 if _chance(0.5, generator) else -1)
        lag = lag if _chance(recipe.late_skeleton, generator) else 0
        clips.append(clip[:, (torch.arange(FRAMES) - lag).clamp(0, FRAMES - 1)])
    return torch.stack(clips)


def _chance(probability: float, generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < probability)


def _learning_rate(step: int, recipe: Recipe) -> float:
    at, share = zip(*recipe.schedule, strict=True)
    return float(np.interp(step + 1, at, share))


def ship(folder: Path, recipe: Recipe, progress: Progress) -> None:
    """Writes weights in half precision and the model card into the package."""
    transformer = PortraitWanTransformer3DModel.from_pretrained(folder / "average").half()
    autoencoder = PatchAutoencoder.from_pretrained(folder / "autoencoder").half()
    for part, name in ((transformer, "transformer"), (autoencoder, "autoencoder")):
        part.register_to_config(_name_or_path="prefkit/tiny")  # not a path of the machine it was made on
        part.save_pretrained(SHIPPED / name)
    template = Template((resources.files("data_cards") / "tiny_model.md.jinja").read_text(), keep_trailing_newline=True)
    size = sum(file.stat().st_size for file in SHIPPED.rglob("*.safetensors"))
    card = template.render(
        recipe=asdict(recipe),
        progress=progress,
        parameters=sum(parameter.numel() for parameter in transformer.parameters()),
        megabytes=size / 1e6,
        torch=torch.__version__,
        config=transformer.to_json_string().strip(),
    )
    (SHIPPED / "README.md").write_text(card)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("pretraining"), help="data and checkpoints")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw and encode portraits")
    options = parser.parse_args()
    recipe = Recipe()
    data, autoencoder = prepare_data(options.folder, recipe, options.workers)
    ship(options.folder, recipe, pretrain(options.folder, recipe, data, autoencoder))


if __name__ == "__main__":
    main()
