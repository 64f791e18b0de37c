"""Memory and time of Hallo4's transformer at its released size: what the arithmetic says, and what a GPU shows.

    python benchmarks/full_size.py

One forward and one LoRA training step (rank 16 on every attention, gradient checkpointing) of one clip: bf16,
480 × 832 pixels, 81 frames. Without a CUDA device only the arithmetic is done, and the results say so.
Writes results/full_size.json; docs/backbones.md explains the numbers.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from prefkit.backbones.transformer import PortraitWanTransformer3DModel

RESULTS = Path(__file__).parent / "results" / "full_size.json"
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
RANK = 16
TEXT_LENGTH = 512
# dense bf16 peaks from the makers' data sheets, multiply and add counted as two
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}


def sizes(config: Any, height: int, width: int, frames: int) -> dict[str, int]:
    """Numbers of tokens; latents are 8 times smaller than the frames."""
    _, patch_high, patch_wide = config.patch_size
    per_frame = (height // 8 // patch_high) * (width // 8 // patch_wide)
    latent_frames = (frames - 1) // config.temporal_factor + 2  # and the reference
    return {"per_frame": per_frame, "latent_frames": latent_frames, "tokens": per_frame * latent_frames}


def forward_flops(config: Any, height: int, width: int, frames: int, text: int = TEXT_LENGTH) -> dict[str, float]:
    """Floating-point operations of the matrix products of one forward of one clip, by what they are for."""
    count = sizes(config, height, width, frames)
    s, n, f = count["tokens"], count["per_frame"], count["latent_frames"]
    d = config.num_attention_heads * config.attention_head_dim
    main, hints = config.num_layers, len(config.vace_layers)
    audio = config.temporal_factor * config.audio_context_tokens
    folded = config.temporal_factor * (f - 1)
    patch = math.prod(config.patch_size)
    features = config.audio_window * config.audio_blocks * config.audio_channels
    hidden = config.audio_hidden_dim
    return {
        "self-attention, projections": (main + hints) * 8 * s * d * d,
        "self-attention, products": (main + hints) * 4 * s * s * d,
        "text attention": (main + hints) * (4 * (s + text) * d * d + 4 * s * text * d),
        "feed-forward": (main + hints) * 4 * s * d * config.ffn_dim,
        "audio attention": main * (4 * (s + f * audio) * d * d + 4 * s * audio * d),
        "skeleton attention": main * (8 * s * d * d + 4 * s * n * d),
        "joins of the control branch": (hints + 1) * 2 * s * d * d,
        "embeddings and head": 2 * s * d * patch * (config.in_channels + config.vace_in_channels + config.out_channels)
        + 2 * text * (config.text_dim * d + d * d)
        + 2 * (config.freq_dim * d + d * d + 6 * d * d),
        "TMM projections": 2 * (folded - config.temporal_factor + 1) * n * patch * config.skeleton_channels
        * (d // config.temporal_factor)
        + 2 * (folded - config.temporal_factor + 1)
        * (features * hidden + hidden * hidden + hidden * config.audio_context_tokens * d),
    }  # fmt: skip


def lora_parameters(model: torch.nn.Module) -> int:
    """Weights of a LoRA adapter on every attention."""
    linears = [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and any(name.endswith("." + end) for end in LORA_TARGETS)
    ]
    return sum(RANK * (layer.in_features + layer.out_features) for layer in linears)


def arithmetic(model: PortraitWanTransformer3DModel, height: int, width: int, frames: int) -> dict[str, Any]:
    """What a forward and a step must do and hold at least."""
    config: Any = model.config
    count = sizes(config, height, width, frames)
    by_part = forward_flops(config, height, width, frames)
    forward = sum(by_part.values())
    d = config.num_attention_heads * config.attention_head_dim
    state = 2 * count["tokens"] * d  # one block's input in bf16
    weights = sum(parameter.numel() for parameter in model.parameters())
    kept: Any = model._keep_in_fp32_modules
    exact = sum(p.numel() for name, p in model.named_parameters() if any(part in name.split(".") for part in kept))
    adapter = lora_parameters(model)
    blocks = config.num_layers + len(config.vace_layers)
    return {
        **count,
        "parameters": weights,
        "forward_flops": forward,
        "forward_flops_by_part": by_part,
        # the input's gradient costs a forward, the frozen weights' none; checkpointing runs every block again
        "step_flops": 3 * forward,
        "weight_bytes": 2 * (weights - exact) + 4 * exact,
        "adapter_parameters": adapter,
        # float32 weight, gradient and the two moments of AdamW
        "adapter_bytes": 16 * adapter,
        "block_input_bytes": state,
        # every block's input is kept, and the hints that wait for their layer
        "checkpoint_bytes": state * (blocks + len(config.vace_layers)),
        # live while one block is computed: float32 copies around norms and gates, the inner feed-forward
        "block_work_bytes": 2 * count["tokens"] * config.ffn_dim * 2 + 6 * 2 * state,
        "floor_seconds": {name: {"forward": forward / p, "step": 3 * forward / p} for name, p in PEAKS.items()},
    }


def inputs(config: Any, height: int, width: int, frames: int, **where: Any) -> dict[str, torch.Tensor]:
    """Random inputs of one clip."""
    high, wide, groups = height // 8, width // 8, (frames - 1) // config.temporal_factor + 2
    features = (config.audio_window, config.audio_blocks, config.audio_channels)
    return {
        "hidden_states": torch.randn(1, config.in_channels, groups, high, wide, **where),
        "timestep": torch.full((1,), 500.0, device=where["device"]),
        "encoder_hidden_states": torch.randn(1, TEXT_LENGTH, config.text_dim, **where),
        "control_hidden_states": torch.randn(1, config.vace_in_channels, groups, high, wide, **where),
        "skeleton_latents": torch.randn(1, config.skeleton_channels, frames, high, wide, **where),
        "audio_embeds": torch.randn(1, frames, *features, **where),
    }


def counted_flops(model: PortraitWanTransformer3DModel, height: int, width: int, frames: int) -> int:
    """What PyTorch counts in a forward of a model on the meta device: the check of `forward_flops`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs(model.config, height, width, frames, device="meta"))
    return counter.get_total_flops()


def measure(height: int, width: int, frames: int, repeats: int) -> dict[str, Any]:
    """Seconds and peak memory of a forward and of a LoRA step on the first CUDA device."""
    from peft import LoraConfig

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = PortraitWanTransformer3DModel()
    kept: Any = model._keep_in_fp32_modules
    for name, parameter in model.named_parameters():
        if not any(part in name.split(".") for part in kept):
            parameter.data = parameter.data.bfloat16()
    given = inputs(model.config, height, width, frames, device="cuda", dtype=torch.bfloat16)
    model.eval()

    def forward() -> None:
        with torch.no_grad():
            model(**given)

    found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "forward": timed(forward, repeats)}
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LORA_TARGETS))
    model.enable_gradient_checkpointing()
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    optimiser = torch.optim.AdamW(trained, lr=1e-4)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**given).sample.float().square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return found | {"lora_step": timed(step, repeats)}


def timed(work: Callable[[], None], repeats: int) -> dict[str, float]:
    """Seconds (the median; the fastest and slowest beside it) and peak memory, after one run to warm up."""
    work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    peak = torch.cuda.max_memory_allocated()
    return {"seconds": seconds[len(seconds) // 2], "fastest": seconds[0], "slowest": seconds[-1], "peak_bytes": peak}


def main() -> None:
    """Does the arithmetic, measures where it can, and writes both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    size = (given.height, given.width, given.frames)
    with torch.device("meta"):
        model = PortraitWanTransformer3DModel()
    found: dict[str, Any] = {"size": size, "arithmetic": arithmetic(model, *size)}
    found["counted_forward_flops"] = counted_flops(model, *size)
    found["measured"] = measure(*size, given.repeats) if torch.cuda.is_available() else None
    if found["measured"] is not None:
        peak = next((peak for name, peak in PEAKS.items() if name in found["measured"]["device"]), None)
        for work, flops in (("forward", "forward_flops"), ("lora_step", "step_flops")):
            if peak is not None:
                floor = found["arithmetic"][flops] / peak
                found["measured"][work]["times_the_floor"] = found["measured"][work]["seconds"] / floor
    text = json.dumps(found, indent=2)
    print(text)
    if found["measured"] is None:
        print("Not measured: there is no CUDA device here.")
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
