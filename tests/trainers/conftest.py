"""A small random flow-matching backbone and a small preference dataset with real files."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from safetensors.torch import save_file
from torch import nn

from prefkit.media import write_clip, write_image, write_wav
from prefkit.tables import PAIRS

SIZE, FRAMES, FPS = 16, 5, 25.0
LATENTS = (8, 2, 4, 4)


class SmallDenoiser(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """One attention over latent positions, told the timestep and the condition."""

    @register_to_config
    def __init__(self, channels: int = 8, dim: int = 16):
        super().__init__()
        self.embed = nn.Linear(channels, dim)
        self.condition = nn.Linear(4, dim)
        self.time = nn.Linear(1, dim)
        self.to_q, self.to_k, self.to_v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.head = nn.Linear(dim, channels)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(noisy.flatten(2).transpose(1, 2))
        tokens = tokens + self.condition(condition)[:, None] + self.time(timesteps[:, None] / 1000)[:, None]
        attended = nn.functional.scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        tokens = tokens + self.to_out[0](attended)
        return self.head(tokens).transpose(1, 2).reshape(noisy.shape)


class CheckpointingDenoiser(SmallDenoiser):
    """`SmallDenoiser` whose attention can be computed again instead of being kept."""

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(super().forward, noisy, timesteps, condition)
        return super().forward(noisy, timesteps, condition)


class SmallBackbone:
    """`prefkit.backbones.contract.Backbone` with random weights; clips of 16x16 pixels and 5 frames."""

    name = "small"
    fps = FPS
    frame_size = (SIZE, SIZE)
    num_frames = FRAMES
    prediction_type = "flow"

    def __init__(self, seed: int = 0, weights_hash: str = "5ma11"):
        torch.manual_seed(seed)
        self.weights_hash = weights_hash
        self.model = SmallDenoiser()
        self.encoded: list[str] = []

    @classmethod
    def from_pretrained(cls, device: Any = None) -> "SmallBackbone":
        backbone = cls()
        backbone.model.to(device)
        return backbone

    def encode_condition(
        self, portrait: np.ndarray, audio: np.ndarray, skeleton: np.ndarray, text: str | None = None
    ) -> dict[str, torch.Tensor]:
        self.encoded.append("condition")
        parts = [portrait.mean() / 255, np.abs(audio / 32768).mean(), skeleton.mean() / 255, len(text or "") / 10]
        return {"condition": torch.tensor(parts, dtype=torch.float32)}

    def encode_clip(self, frames: np.ndarray) -> torch.Tensor:
        self.encoded.append("clip")
        pixels = torch.from_numpy(frames).float().div(127.5).sub(1).permute(3, 0, 1, 2)
        pooled = nn.functional.adaptive_avg_pool3d(pixels, LATENTS[1:])
        return torch.cat([pooled, pooled.flip(-1), pooled[:2]])

    def decode_clip(self, latents: torch.Tensor) -> np.ndarray:
        raise NotImplementedError("training decodes nothing")

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        sigma = (timesteps / 1000).view(-1, 1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return noise - latents

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        return self.model(noisy, timesteps, conditioning["condition"])

    def sample(
        self, conditioning: Any, seeds: Sequence[int], *, num_inference_steps: int | None = None
    ) -> torch.Tensor:
        raise NotImplementedError("training samples nothing")


class KilledBackbone(SmallBackbone):
    """Kills its process, as `kill -9` does, at the forward that PREFKIT_TEST_KILL_AT says."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = 0

    def predict(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.forwards += 1
        if self.forwards == int(os.environ["PREFKIT_TEST_KILL_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(*args, **kwargs)


def write_dataset(folder: Path, *, train: int = 10, test: int = 4, latents: bool = True) -> Path:
    """Pairs whose chosen clips are brighter than their rejected ones; real mp4, wav and png files."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        rows = [_write_pair(folder, rng, split, number, latents) for number in range(count)]
        (folder / "pairs").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=PAIRS.schema), folder / "pairs" / f"{split}.parquet")
    return folder


def _write_pair(folder: Path, rng: np.random.Generator, split: str, number: int, latents: bool) -> dict[str, Any]:
    name = f"{split}{number}"
    condition = f"{split}{number // 2}"  # two pairs share a condition
    row: dict[str, Any] = {
        "pair_id": name,
        "condition_id": condition,
        "identity": condition,
        "reference_image": f"media/{condition}.png",
        "audio": f"media/{condition}.wav",
        "skeleton": f"media/{condition}.mp4",
        "prompt": None,
        "fps": FPS,
        "num_frames": FRAMES,
        "criterion": "overall",
        "preference": 0.75,
        "weight": 1.0 + number % 3,
        "source": "simulated",
        "split": split,
    }
    sound = (rng.standard_normal(FRAMES * 640) * 3000).astype(np.int16)
    if not (folder / row["audio"]).exists():
        write_image(folder / row["reference_image"], rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8))
        write_wav(folder / row["audio"], sound)
        write_clip(folder / row["skeleton"], rng.integers(0, 255, (FRAMES, SIZE, SIZE, 3), np.uint8), FPS)
    for side, brightness in (("chosen", 60), ("rejected", 0)):
        row[side], row[f"{side}_id"] = f"clips/{name}-{side}.mp4", f"{name}-{side}"
        frames = rng.integers(0, 128, (FRAMES, SIZE, SIZE, 3), np.uint8) + np.uint8(brightness)
        write_clip(folder / row[side], frames, FPS, audio=sound)
        if latents:
            row[f"{side}_latents"] = f"latents/{name}-{side}.safetensors"
            (folder / "latents").mkdir(exist_ok=True)
            save_file({"latents": SmallBackbone().encode_clip(frames)}, folder / row[f"{side}_latents"])
    return row


SMALL_RUN: dict[str, Any] = {
    "use_cpu": True,
    "max_steps": 6,
    "per_device_train_batch_size": 4,
    "draws": 4,
    "logging_steps": 1,
    "eval_steps": 3,
    "save_steps": 3,
    "warmup_steps": 0,
    "learning_rate": 1e-2,
    "beta": 50.0,
    "lora_r": 4,
    "lora_alpha": 8,
    "disable_tqdm": True,
    "report_to": "none",
}


@pytest.fixture(scope="session")
def small_run() -> dict[str, Any]:
    """Options under which a run on the small dataset takes a second."""
    return dict(SMALL_RUN)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    return write_dataset


@pytest.fixture(scope="session")
def make_backbone() -> type[SmallBackbone]:
    return SmallBackbone


@pytest.fixture(scope="session")
def make_checkpointing_backbone() -> Callable[[], SmallBackbone]:
    def make() -> SmallBackbone:
        backbone = SmallBackbone()
        model = CheckpointingDenoiser()
        model.load_state_dict(backbone.model.state_dict())
        backbone.model = model
        return backbone

    return make


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))
