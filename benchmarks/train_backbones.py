"""Do both backbones learn? A few hundred steps on synthetic portraits, small models, one CPU thread.

    python benchmarks/train_backbones.py

Writes results/train_backbones.json and .md. For each backbone: the loss on held-out portraits before and after
training at fixed noise and timesteps, and how far the prediction moves when the skeleton, the speech or the
reference of another portrait is given, and when each is turned off (zeros).
"""

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor

from prefkit.backbones.autoencoder import PatchAutoencoder
from prefkit.backbones.contract import Conditioning, stack_conditioning
from prefkit.backbones.hallo4_backbone import Hallo4Backbone
from prefkit.backbones.pipeline import PortraitPipeline, flow_scheduler
from prefkit.backbones.speech import VideoRateWav2Vec2Model
from prefkit.backbones.tiny import SHIPPED
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.backbones.unet import PortraitUNetModel
from prefkit.backbones.unet_backbone import UNetBackbone
from prefkit.synthetic.portrait import make_portrait

RESULTS = Path(__file__).parent / "results"
LATENTS = 64  # channels of the shipped patch autoencoder
CONDITIONS = ("skeleton", "speech", "reference")
FIRST_SEED = 980_000  # portraits of no workspace and no other training


def speech_encoder() -> VideoRateWav2Vec2Model:
    """A small random one: its features are fixed, and the speech can still be read off them."""
    torch.manual_seed(1)
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(32, 32, 32),
        conv_kernel=(10, 8, 4),
        conv_stride=(5, 4, 4),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    return VideoRateWav2Vec2Model(config).eval()


AUDIO = {"audio_blocks": 2, "audio_channels": 32, "audio_hidden_dim": 64, "audio_context_tokens": 4}


def small_hallo4() -> Hallo4Backbone:
    """The transformer at width 96 with 4 layers."""
    torch.manual_seed(0)
    transformer = PortraitWanTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=32,
        patch_size=(1, 1, 1),
        in_channels=LATENTS,
        out_channels=LATENTS,
        text_dim=8,
        freq_dim=64,
        ffn_dim=256,
        num_layers=4,
        vace_layers=(0, 2),
        vace_in_channels=2 * LATENTS + 64,
        skeleton_channels=LATENTS,
        **AUDIO,
    )
    pipeline = PortraitPipeline(
        transformer,
        PatchAutoencoder.from_pretrained(SHIPPED / "autoencoder"),
        speech_encoder(),
        Wav2Vec2FeatureExtractor(),
        flow_scheduler(),
        num_frames=25,
        height=64,
        width=64,
    )
    return Hallo4Backbone(pipeline, guidance_scale=1.0)


def small_unet() -> UNetBackbone:
    """The UNet with widths 64 and 96."""
    torch.manual_seed(0)
    model = PortraitUNetModel(
        in_channels=LATENTS,
        reference_channels=LATENTS,
        skeleton_channels=LATENTS,
        block_out_channels=(64, 96),
        layers_per_block=1,
        attention_levels=(True, True),
        num_attention_heads=2,
        norm_num_groups=8,
        cross_attention_dim=64,
        text_dim=8,
        temporal_factor=4,
        **AUDIO,
    )
    return UNetBackbone(
        model,
        PatchAutoencoder.from_pretrained(SHIPPED / "autoencoder"),
        speech_encoder(),
        Wav2Vec2FeatureExtractor(),
        FlowMatchEulerDiscreteScheduler(shift=2.0),
        frame_size=(64, 64),
        num_frames=25,
        guidance_scale=1.0,
    )


BACKBONES = {"PortraitWanTransformer3DModel": small_hallo4, "PortraitUNetModel": small_unet}


def encode(backbone: Any, seeds: range) -> tuple[torch.Tensor, Conditioning]:
    """Latents and conditions of the portraits of these seeds."""
    latents, conditions = [], []
    for seed in seeds:
        portrait = make_portrait(seed)
        latents.append(backbone.encode_clip(portrait.frames))
        conditions.append(backbone.encode_condition(portrait.reference, portrait.audio, portrait.skeleton))
    return torch.stack(latents), stack_conditioning(conditions)


def rows(conditioning: Conditioning, index: torch.Tensor) -> Conditioning:
    """A batch out of many."""
    return {name: tensor[index] for name, tensor in conditioning.items()}


def train(backbone: Any, latents: torch.Tensor, conditioning: Conditioning, steps: int, batch: int = 4) -> list[float]:
    """AdamW on the flow-matching loss; returns the loss of each step."""
    generator = torch.Generator().manual_seed(0)
    backbone.model.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(backbone.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        index = torch.randint(len(latents), (batch,), generator=generator)
        noise = torch.randn(latents[index].shape, generator=generator)
        timesteps = 1000 * torch.rand(batch, generator=generator).clamp(min=1e-3)
        loss = flow_loss(backbone, latents[index], noise, timesteps, rows(conditioning, index))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    backbone.model.eval()
    return losses


def flow_loss(
    backbone: Any, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
) -> torch.Tensor:
    """Mean squared error of the prediction."""
    prediction = backbone.predict(backbone.add_noise(latents, noise, timesteps), timesteps, conditioning)
    return (prediction - backbone.target(latents, noise, timesteps)).square().mean()


@torch.no_grad()
def held_out(backbone: Any, latents: torch.Tensor, conditioning: Conditioning) -> dict[str, float]:
    """The loss at fixed noise and timesteps: with the condition, with parts of it off, and with another portrait's."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = torch.linspace(100, 900, len(latents))
    found = {"loss": flow_loss(backbone, latents, noise, timesteps, conditioning).item()}
    noisy = backbone.add_noise(latents, noise, timesteps)
    with_it = backbone.predict(noisy, timesteps, conditioning)
    for name in CONDITIONS:
        for kind, other in (("off", torch.zeros_like), ("of another", lambda tensor: tensor.roll(1, 0))):
            changed = conditioning | {name: other(conditioning[name])}
            found[f"loss, {name} {kind}"] = flow_loss(backbone, latents, noise, timesteps, changed).item()
            moved = backbone.predict(noisy, timesteps, changed) - with_it
            found[f"change, {name} {kind}"] = (
                (moved.square().mean() / with_it.square().mean().clamp(min=1e-12)).sqrt().item()
            )
    return found


def main() -> None:
    """Trains both and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--portraits", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"steps": arguments.steps, "portraits": arguments.portraits, "commit": commit()}
    for name, make in BACKBONES.items():
        backbone = make()
        seen = encode(backbone, range(FIRST_SEED, FIRST_SEED + arguments.portraits))
        unseen = encode(backbone, range(FIRST_SEED + 5000, FIRST_SEED + 5016))
        before, start = held_out(backbone, *unseen), time.perf_counter()
        losses = train(backbone, *seen, arguments.steps)
        results[name] = {
            "parameters": sum(p.numel() for p in backbone.model.parameters()),
            "seconds": round(time.perf_counter() - start, 1),
            "training loss": {
                "first 20 steps": sum(losses[:20]) / len(losses[:20]),
                "last 20 steps": sum(losses[-20:]) / len(losses[-20:]),
            },
            "held out, before": {"loss": before["loss"]},  # a new transformer predicts zero: nothing can change
            "held out, after": held_out(backbone, *unseen),
        }
        print(json.dumps({name: results[name]}, indent=2), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "train_backbones.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "train_backbones.md").write_text(as_markdown(results))


def as_markdown(results: dict[str, Any]) -> str:
    """The table of results."""
    lines = [
        "# Both backbones learn",
        "",
        f"`python benchmarks/train_backbones.py --steps {results['steps']} --portraits {results['portraits']}` at "
        f"{results['commit']}, one CPU thread. Synthetic portraits of 64 × 64 pixels; flow-matching loss on 16 "
        "portraits of unseen people at fixed noise and timesteps. *Change* is the root mean square of how the "
        "prediction moves, relative to its own; *off* is zeros, *of another* is another portrait's.",
        "",
        "| | " + " | ".join(BACKBONES) + " |",
        "|---|" + "---|" * len(BACKBONES),
    ]
    models = [results[name] for name in BACKBONES]
    lines.append("| parameters | " + " | ".join(f"{model['parameters']:,}" for model in models) + " |")
    lines.append("| seconds of training | " + " | ".join(f"{model['seconds']:g}" for model in models) + " |")
    lines.append("| held-out loss before | " + cells(models, "held out, before", "loss"))
    for measure in models[0]["held out, after"]:
        label = "held-out loss after" if measure == "loss" else f"after: {measure}"
        lines.append(f"| {label} | " + cells(models, "held out, after", measure))
    return "\n".join(lines) + "\n"


def cells(models: list[dict[str, Any]], when: str, measure: str) -> str:
    """One row's numbers."""
    return " | ".join(f"{model[when][measure]:.4f}" for model in models) + " |"


def commit() -> str:
    """The commit this ran at."""
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return described.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
