"""What a step of preference tuning costs, against what a user would run instead.

Ratios within one run: the compared steps take turns, so a busy machine slows all alike; medians of
`--steps` rounds. Random data and weights, real sizes of latents::

    python benchmarks/training.py [--steps 30] [--output benchmarks/results]

1. With the reference cached, a step costs what a supervised step on the same two clips costs.
2. With LoRA and the reference computed live, it costs about a forward more.
3. The arithmetic of diffusers' research script on the same UNet: a convolutional autoencoder encodes both
   clips at every step, and the reference is computed live. The autoencoder is no larger beside the UNet
   than Stable Diffusion's is beside its own (both ratios are in the results).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn.functional import logsigmoid, mse_loss
from torch.utils.flop_counter import FlopCounterMode

from prefkit.backbones.tiny import TinyBackbone
from prefkit.backbones.unet import PortraitUNetModel
from trainers.config import DiffusionDPOConfig
from trainers.draws import collate
from trainers.encoding import EncodedPairs
from trainers.reference import adapter_off
from trainers.trainer import DiffusionDPOTrainer

PAIRS, BATCH, BETA = 8, 2, 500.0
LIMITS = {"cached": 1.05, "live": 1.55, "research script": 1.5}
# what Stable Diffusion's autoencoder is made of
AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


class UNetBackbone:
    """A small TMM UNet of image latents [4, 5, 8, 8], with random weights; clips of 64 × 64 pixels."""

    name, fps, frame_size, num_frames = "small-unet", 25.0, (64, 64), 5
    prediction_type, weights_hash = "epsilon", "0"
    latents = (4, 5, 8, 8)

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = PortraitUNetModel(
            block_out_channels=(32, 64), attention_levels=(True, True), layers_per_block=1,
            num_attention_heads=4, norm_num_groups=8, cross_attention_dim=64, text_dim=64, audio_window=5,
            audio_blocks=1, audio_channels=32, audio_hidden_dim=32, audio_context_tokens=4,
        )  # fmt: skip

    def conditioning(self) -> dict[str, torch.Tensor]:  # noqa: D102
        return {
            "reference": torch.randn(4, 1, 8, 8),
            "skeleton": torch.randn(4, 5, 8, 8),
            "speech": torch.randn(5, 5, 1, 32),
        }

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:  # noqa: D102
        kept = torch.cos(timesteps / 1000 * torch.pi / 2).view(-1, 1, 1, 1, 1)
        return kept * latents + (1 - kept**2).sqrt() * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return noise

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Any) -> torch.Tensor:  # noqa: D102
        return self.model(
            noisy, timesteps, conditioning["reference"], conditioning["skeleton"], conditioning["speech"]
        ).sample


def tiny_backbone() -> Any:
    backbone: Any = TinyBackbone.from_pretrained()
    channels = backbone.model.config.in_channels
    backbone.latents = (channels, 7, 8, 8)
    backbone.conditioning = lambda: {
        "reference": torch.randn(channels, 1, 8, 8),
        "skeleton": torch.randn(channels, 25, 8, 8),
        "speech": torch.randn(25, 5, 1, 32),
    }
    return backbone


def encoded_pairs(backbone: Any) -> EncodedPairs:
    """Random latents and conditions in memory."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[Path, dict[str, torch.Tensor]] = {}
    for number in range(PAIRS):
        for side in ("chosen", "rejected"):
            latents = torch.randn(backbone.latents, generator=generator)
            tensors[Path(f"{side}-{number}")] = {"latents": latents}
        tensors[Path(f"condition-{number}")] = backbone.conditioning()
    row = {"criterion": "overall", "preference": None, "tie_probability": None, "start": 0, "stop": 0}
    paths = {
        kind: [Path(f"{kind}-{number}") for number in range(PAIRS)] for kind in ("chosen", "rejected", "condition")
    }
    return EncodedPairs(
        rows=[row | {"pair_id": str(number)} for number in range(PAIRS)],
        weights=[1.0] * PAIRS,
        load=tensors.__getitem__,
        chosen=paths["chosen"],
        rejected=paths["rejected"],
        conditions=paths["condition"],
    )


class Bench:
    """One model with its trainer, and the steps that are compared on it."""

    def __init__(self, backbone: Any, folder: str, *, use_peft: bool):
        options = {"use_peft": use_peft, "reference": "cached", "disable_tqdm": True, "eval_strategy": "no"}
        config = DiffusionDPOConfig(
            output_dir=folder,
            use_cpu=True,
            draws=4,
            per_device_train_batch_size=BATCH,
            beta=BETA,
            report_to="none",
            **options,
        )
        self.backbone = backbone
        self.trainer = DiffusionDPOTrainer(backbone, config, encoded_pairs(backbone))
        self.optimizer = self.trainer.create_optimizer()
        self.next = 0

    def batch(self) -> dict[str, Any]:
        """The next pairs, with the noise drawn for them."""
        items = [
            self.trainer.train_dataset[(self.next + place) % len(self.trainer.train_dataset)] for place in range(BATCH)
        ]
        self.next += BATCH
        return collate(items)

    def supervised(self) -> torch.Tensor:
        """Supervised fine-tuning on both clips of each pair."""
        chosen, rejected = self.trainer._errors(self.trainer.model, self.batch())
        return (chosen.mean() + rejected.mean()) / 2

    def cached(self) -> torch.Tensor:
        """Diffusion-DPO, the reference known."""
        return self.trainer.compute_loss(self.trainer.model, self.batch())

    def live(self) -> torch.Tensor:
        """Diffusion-DPO, the reference by another forward with the adapter off."""
        batch = self.batch()
        del batch["reference_errors"]
        return self.trainer.compute_loss(self.trainer.model, batch)

    def step(self, loss: Callable[[], torch.Tensor]) -> float:
        """Seconds of one optimizer step."""
        self.trainer.model.train()
        started = time.perf_counter()
        loss().backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.trainer.model.parameters() if p.requires_grad], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - started


def research_script(bench: Bench, autoencoder: AutoencoderKL) -> Callable[[], torch.Tensor]:
    """The step of diffusers' examples/research_projects/diffusion_dpo on the same UNet: what it computes, in order."""
    height, width = bench.backbone.frame_size
    frames = bench.backbone.num_frames
    pixels = torch.randn(2 * BATCH, 3, frames, height, width)

    def loss() -> torch.Tensor:
        batch = bench.batch()
        with torch.no_grad():
            flat = pixels.transpose(1, 2).reshape(-1, 3, height, width)
            encoded = autoencoder.encode(flat).latent_dist.sample() * 0.18215
        latents = encoded.view(2 * BATCH, frames, 4, *encoded.shape[2:]).transpose(1, 2)
        noise = torch.randn_like(latents[:BATCH]).repeat(2, 1, 1, 1, 1)
        timesteps = batch["timestep"].repeat(2)
        conditioning = {
            name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in batch["conditioning"].items()
        }
        noisy = bench.backbone.add_noise(latents, noise, timesteps)
        prediction = bench.backbone.predict(noisy, timesteps, conditioning)
        chosen, rejected = mse_loss(prediction, noise, reduction="none").flatten(1).mean(1).chunk(2)
        with torch.no_grad(), adapter_off(bench.backbone):
            reference = bench.backbone.predict(noisy, timesteps, conditioning)
            reference_chosen, reference_rejected = (
                mse_loss(reference, noise, reduction="none").flatten(1).mean(1).chunk(2)
            )
        return -logsigmoid(-BETA * ((chosen - rejected) - (reference_chosen - reference_rejected))).mean()

    return loss


def interleaved(bench: Bench, steps: dict[str, Callable[[], torch.Tensor]], rounds: int) -> dict[str, Any]:
    """Median seconds of each kind of step, and the median of its ratio to the first kind in the same round."""
    for loss in steps.values():
        bench.step(loss)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, loss in steps.items():
            seconds[name].append(bench.step(loss))
    first = next(iter(steps))
    return {
        name: {
            "seconds": statistics.median(found),
            "ratio": statistics.median(one / base for one, base in zip(found, seconds[first], strict=True)),
        }
        for name, found in seconds.items()
    }


def flops(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def stable_diffusion_ratio() -> float:
    """FLOPs of encoding a 512 × 512 picture over a forward of Stable Diffusion's UNet, counted without weights."""
    with torch.device("meta"):
        autoencoder = AutoencoderKL(block_out_channels=(128, 256, 512, 512), **AUTOENCODER)
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
        picture, latents, text = torch.randn(1, 3, 512, 512), torch.randn(1, 4, 64, 64), torch.randn(1, 77, 768)
        step = torch.ones(1)
    return flops(lambda: autoencoder.encode(picture)) / flops(lambda: unet(latents, step, text))


def run(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("tiny DiT", tiny_backbone), ("UNet", UNetBackbone)):
            for use_peft in (True, False):
                bench = Bench(make(), folder, use_peft=use_peft)
                steps = {"supervised": bench.supervised, "cached": bench.cached}
                if use_peft:
                    steps["live"] = bench.live
                found[f"{name}, {'LoRA' if use_peft else 'full'}"] = interleaved(bench, steps, rounds)
        bench = Bench(UNetBackbone(), folder, use_peft=True)
        autoencoder = AutoencoderKL(block_out_channels=(8, 24, 48, 48), norm_num_groups=8, **AUTOENCODER).eval()
        steps = {"prefkit, cached": bench.cached, "research script": research_script(bench, autoencoder)}
        found["UNet, LoRA, against the research script"] = interleaved(bench, steps, rounds)
        found["encoder / UNet FLOPs"] = {
            "here": _ratio(bench, autoencoder),
            "Stable Diffusion": stable_diffusion_ratio(),
        }
    return found


def _ratio(bench: Bench, autoencoder: AutoencoderKL) -> float:
    height, width = bench.backbone.frame_size
    batch = bench.batch()
    encode = flops(lambda: autoencoder.encode(torch.randn(bench.backbone.num_frames, 3, height, width)))
    one = {name: value[:1] for name, value in batch["conditioning"].items()}
    return encode / flops(lambda: bench.backbone.predict(batch["noise"][:1], batch["timestep"][:1], one))


def checks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What must hold, with what was found."""
    rows = []
    for model, steps in found.items():
        for name, limit in LIMITS.items():
            if not isinstance(steps.get(name), dict):
                continue
            ratio = steps[name]["ratio"]
            passed = ratio >= limit if name == "research script" else ratio <= limit
            against = "prefkit's step" if name == "research script" else "a supervised step"
            sign = "≥" if name == "research script" else "≤"
            text = f"{model}: {name} {sign} {limit} × {against}"
            rows.append({"check": text, "found": round(ratio, 3), "passed": passed})
    return rows


def page(result: dict[str, Any]) -> str:
    lines = [
        "# What a training step costs",
        "",
        f"`{result['command']}` at commit `{result['commit']}` on {result['machine']}, {result['threads']} thread(s). "
        f"Medians of {result['steps']} interleaved rounds, {BATCH} pairs a step.",
        "",
        "| must hold | found | passed |",
        "|---|---|---|",
        *(
            f"| {row['check']} | {row['found']:.3f} | {'yes' if row['passed'] else '**no**'} |"
            for row in result["checks"]
        ),
        "",
        "| model | step | milliseconds | ratio |",
        "|---|---|---|---|",
    ]
    ratios = result["found"]["encoder / UNet FLOPs"]
    for model, steps in result["found"].items():
        if model == "encoder / UNet FLOPs":
            continue
        lines += [
            f"| {model} | {name} | {1000 * one['seconds']:.1f} | {one['ratio']:.3f} |" for name, one in steps.items()
        ]
    lines += [
        "",
        f"Encoding a frame takes {ratios['here']:.2f} of the UNet's forward on it here, and "
        f"{ratios['Stable Diffusion']:.2f} in Stable Diffusion at 512 × 512.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    found = run(arguments.steps)
    result = {
        "command": f"python benchmarks/training.py --steps {arguments.steps}",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "threads": torch.get_num_threads(),
        "steps": arguments.steps,
        "checks": checks(found),
        "found": found,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "training.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.output / "training.md").write_text(page(result))
    print(page(result))


if __name__ == "__main__":
    main()
