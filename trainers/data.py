"""A preference dataset, encoded once and kept: what the trainer's batches are made of."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset

from prefkit.backbones.contract import Backbone, Conditioning, stack_conditioning
from prefkit.errors import PrefkitError
from prefkit.media import SAMPLE_RATE, read_audio, read_clip, read_image, sha256_file
from prefkit.progress import track
from prefkit.tables import PAIRS, content_id
from prefkit.workspace import atomic_write
from trainers.noise import draw_noise, draw_timestep, grid_timestep

Row = Mapping[str, Any]

# Above this, tensors are read from the cache at every use instead of being held in memory.
IN_MEMORY_BYTES = 4 * 2**30


# -- the dataset's folder


def read_pairs(folder: str | Path, split: str) -> list[Row]:
    """Reads one split's rows.

    Returns:
        Dicts by the columns of `prefkit.tables.PAIRS`, in the file's order; empty where there is no such split.

    Raises:
        PrefkitError: the folder holds no preference dataset, or columns are missing.
    """
    folder = Path(folder)
    if not any((folder / "pairs").glob("*.parquet")):
        raise PrefkitError(
            f"{folder} holds no preference dataset (no pairs/*.parquet); run 'prefkit build-pairs' first"
        )
    path = folder / "pairs" / f"{split}.parquet"
    if not path.exists():
        return []
    missing = set(PAIRS.schema.names) - set(pq.read_schema(path).names)
    if missing:
        raise PrefkitError(f"{path} lacks the columns {', '.join(sorted(missing))}; build the pairs again")
    return pq.read_table(path, columns=PAIRS.schema.names).to_pylist()


def dataset_fingerprint(folder: str | Path, rows: Sequence[Row]) -> str:
    """16 hex digits over rows and the contents of the files they name."""
    hashes = _FileHashes(Path(folder))
    columns = ("chosen", "rejected", "chosen_latents", "rejected_latents", "reference_image", "audio", "skeleton")
    digest = hashlib.sha256()
    for row in rows:
        files = [hashes(row[column]) if row[column] else None for column in columns]
        digest.update(json.dumps([dict(row), files], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


class _FileHashes:
    """SHA-256 of files in a folder, each computed once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[str, str] = {}

    def __call__(self, relative: str) -> str:
        if relative not in self._known:
            path = self.folder / relative
            if not path.is_file():
                raise PrefkitError(f"{path}, which the dataset names, does not exist; build the pairs again")
            self._known[relative] = sha256_file(path)
        return self._known[relative]


# -- encoding


@dataclass(frozen=True)
class EncodedPairs:
    """The pairs of a split with the files that hold their tensors.

    Attributes:
        rows: as `read_pairs` gave them.
        weights: of each pair, of mean 1.
        load: path -> the tensors in it.
        chosen: per pair, the file with the chosen clip's latents.
        rejected: likewise.
        conditions: per pair, the file with its encoded condition.
    """

    rows: Sequence[Row]
    weights: Sequence[float]
    load: Callable[[Path], dict[str, torch.Tensor]]
    chosen: Sequence[Path]
    rejected: Sequence[Path]
    conditions: Sequence[Path]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One pair: pair_id, chosen_latents and rejected_latents [C, F, h, w], conditioning, preference, weight."""
        row = self.rows[index]
        preference = row["preference"]
        return {
            "pair_id": row["pair_id"],
            "chosen_latents": self.load(self.chosen[index])["latents"].float(),
            "rejected_latents": self.load(self.rejected[index])["latents"].float(),
            "conditioning": self.load(self.conditions[index]),
            "preference": 1.0 if preference is None else float(preference),
            "weight": self.weights[index],
        }


def encode_pairs(folder: str | Path, rows: Sequence[Row], backbone: Backbone, cache_folder: str | Path) -> EncodedPairs:
    """Encodes each condition and each clip of a split once.

    What is encoded stays in ``cache_folder/<weights_hash>/`` under a name made from the contents it
    came from, so a later run finds it. Latents that the dataset keeps beside its clips are used as they
    are, unless their file says that other weights made them. Clips longer than one forward takes are
    cut to their beginning, both alike, with their sound and skeleton.

    Raises:
        PrefkitError: a file is missing or unreadable, the clips of a pair differ in length or size,
            or latents are not finite.
    """
    folder = Path(folder)
    encoder = _Encoder(folder, Path(cache_folder) / backbone.weights_hash, backbone)
    conditions = {row["condition_id"]: row for row in rows}
    clips = {row[side]: (row, side) for row in rows for side in ("chosen", "rejected")}
    missing = encoder.missing(conditions.values(), clips.values())
    for work in track(missing, "Encoding clips and conditions") if missing else ():
        work()

    pairs = EncodedPairs(
        rows=rows,
        weights=_mean_one([row["weight"] for row in rows]),
        load=_Loader(),
        chosen=[encoder.latents_path(row, "chosen") for row in rows],
        rejected=[encoder.latents_path(row, "rejected") for row in rows],
        conditions=[encoder.condition_path(conditions[row["condition_id"]]) for row in rows],
    )
    _check_pairs(pairs)
    return pairs


class _Encoder:
    """Knows where an encoded clip or condition lies, and makes it."""

    def __init__(self, folder: Path, cache: Path, backbone: Backbone):
        self.folder = folder
        self.cache = cache
        self.backbone = backbone
        self.hashes = _FileHashes(folder)

    def missing(self, conditions: Any, clips: Any) -> list[Callable[[], None]]:
        work: list[Callable[[], None]] = []
        for row in conditions:
            if not self.condition_path(row).exists():
                work.append(partial(self._encode_condition, row))
        for row, side in clips:
            if not self.latents_path(row, side).exists():
                work.append(partial(self._encode_clip, row, side))
        return work

    def condition_path(self, row: Row) -> Path:
        for column in ("reference_image", "audio", "skeleton"):
            if row[column] is None:
                raise PrefkitError(
                    f"pair {row['pair_id']} has no {column}, which {self.backbone.name} is conditioned on; "
                    "leave the pair out, or give its condition one"
                )
        parts = [self.hashes(row[column]) for column in ("reference_image", "audio", "skeleton")]
        return self.cache / f"condition-{content_id(*parts, row['prompt'], self.backbone.num_frames)}.safetensors"

    def latents_path(self, row: Row, side: str) -> Path:
        kept = row[f"{side}_latents"]
        if kept is not None and self._made_by_this_backbone(kept):
            return self.folder / kept
        return self.cache / f"clip-{content_id(self.hashes(row[side]), self.backbone.num_frames)}.safetensors"

    def _made_by_this_backbone(self, relative: str) -> bool:
        path = self.folder / relative
        if not path.is_file():
            raise PrefkitError(f"{path}, which the dataset names, does not exist; build the pairs again")
        try:
            with safe_open(path, "pt") as file:
                made_by = (file.metadata() or {}).get("weights_hash", self.backbone.weights_hash)
        except SafetensorError as error:
            raise PrefkitError(f"{path} cannot be read ({error}); build the pairs again") from None
        return made_by == self.backbone.weights_hash

    def _encode_condition(self, row: Row) -> None:
        skeleton = read_clip(self.folder / row["skeleton"])
        self._check_fps(skeleton.fps, row["skeleton"])
        length = _window(len(skeleton.frames), self.backbone.num_frames)
        audio = read_audio(self.folder / row["audio"])[: round(length / self.backbone.fps * SAMPLE_RATE)]
        portrait = read_image(self.folder / row["reference_image"])
        with torch.no_grad():
            conditioning = self.backbone.encode_condition(portrait, audio, skeleton.frames[:length], row["prompt"])
        self._save(self.condition_path(row), conditioning)

    def _encode_clip(self, row: Row, side: str) -> None:
        other = "rejected" if side == "chosen" else "chosen"
        clip = read_clip(self.folder / row[side])
        self._check_fps(clip.fps, row[side])
        if row["num_frames"] is not None and len(clip.frames) != row["num_frames"]:
            raise PrefkitError(
                f"the {side} clip of pair {row['pair_id']} has {len(clip.frames)} frames, expected {row['num_frames']} "
                f"as for the {other} one; leave the pair out, or cut both to one length"
            )
        if clip.frames.shape[1:3] != tuple(self.backbone.frame_size):
            raise PrefkitError(
                f"the {side} clip of pair {row['pair_id']} has frames of (height, width) {clip.frames.shape[1:3]}, "
                f"expected {tuple(self.backbone.frame_size)} as {self.backbone.name} makes them; resize it first"
            )
        length = _window(len(clip.frames), self.backbone.num_frames)
        with torch.no_grad():
            latents = self.backbone.encode_clip(clip.frames[:length])
        self._save(self.latents_path(row, side), {"latents": latents})

    def _check_fps(self, fps: float, name: str) -> None:
        if abs(fps - self.backbone.fps) > 0.01:
            raise PrefkitError(
                f"{self.folder / name} runs at {fps:g} frames a second, expected {self.backbone.fps:g} as "
                f"{self.backbone.name} makes; convert it first"
            )

    def _save(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        with atomic_write(path) as temporary:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)


class _Loader:
    """Reads safetensors, and holds what it read while there is room."""

    def __init__(self) -> None:
        self._held: dict[Path, dict[str, torch.Tensor]] = {}
        self._room = IN_MEMORY_BYTES

    def __call__(self, path: Path) -> dict[str, torch.Tensor]:
        if path in self._held:
            return self._held[path]
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise PrefkitError(f"{path} cannot be read ({error}); remove it and try again") from None
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size <= self._room:
            self._held[path] = tensors
            self._room -= size
        return tensors


def _window(length: int, longest: int) -> int:
    """The longest 4k + 1 frames that one forward takes, of a clip of `length` frames."""
    return (min(length, longest) - 1) // 4 * 4 + 1


def _mean_one(weights: Sequence[float | None]) -> list[float]:
    known = [1.0 if weight is None else float(weight) for weight in weights]
    total = sum(known)
    if known and (min(known) < 0 or not 0 < total < float("inf")):
        raise PrefkitError("the weights of the pairs are negative, infinite or all zero; expected weights above 0")
    return [weight * len(known) / total for weight in known]


def _check_pairs(pairs: EncodedPairs) -> None:
    shapes: dict[tuple[int, ...], str] = {}
    for index, row in enumerate(pairs.rows):
        chosen, rejected = pairs.load(pairs.chosen[index]), pairs.load(pairs.rejected[index])
        for side, tensors in (("chosen", chosen), ("rejected", rejected)):
            if "latents" not in tensors:
                raise PrefkitError(
                    f"the {side} latents of pair {row['pair_id']} lack the key 'latents'; build the pairs again"
                )
            if not tensors["latents"].isfinite().all():
                raise PrefkitError(
                    f"the {side} latents of pair {row['pair_id']} hold NaN or infinite values; leave the pair out"
                )
        shape, other = tuple(chosen["latents"].shape), tuple(rejected["latents"].shape)
        if shape != other:
            raise PrefkitError(
                f"the clips of pair {row['pair_id']} differ in length or size (latents {shape} and {other}); "
                "leave the pair out, or cut both to one length"
            )
        shapes.setdefault(shape, row["pair_id"])
    if len(shapes) > 1:
        (first, pair_a), (second, pair_b) = list(shapes.items())[:2]
        raise PrefkitError(
            f"pairs {pair_a} and {pair_b} have clips of different length or size (latents {first} and {second}); "
            "expected one length throughout a dataset, so cut the clips to it"
        )


# -- what a batch is made of


class TrainingDraws(Dataset[dict[str, Any]]):
    """Every pair `draws` times, each time with its own noise and timestep, pass by pass in a shuffled order.

    The order is part of the dataset (read it in sequence), so that it too depends on the seed alone.
    """

    def __init__(self, pairs: EncodedPairs, *, seed: int, draws: int, low: float, high: float):
        self.pairs = pairs
        self.seed = seed
        self.draws = draws
        self.low = low
        self.high = high
        generator = torch.Generator().manual_seed(seed)
        self._order = [torch.randperm(len(pairs), generator=generator).tolist() for _ in range(draws)]

    def __len__(self) -> int:
        """Pairs times draws."""
        return len(self.pairs) * self.draws

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A pair of `EncodedPairs` with ``index``, ``noise`` [C, F, h, w] and ``timestep``."""
        draw, position = divmod(index, len(self.pairs))
        item = self.pairs[self._order[draw][position]]
        where: dict[str, Any] = {"seed": self.seed, "pair_id": item["pair_id"], "draw": draw}
        timestep = draw_timestep(**where, draws=self.draws, low=self.low, high=self.high)
        return item | {"index": index, "noise": draw_noise(item["chosen_latents"].shape, **where), "timestep": timestep}


class EvaluationGrid(Dataset[dict[str, Any]]):
    """At most `limit` pairs, spread evenly over the split, at `size` fixed timesteps with fixed noise.

    The noise depends on the pair and the timestep alone, so all runs on a dataset are judged alike.
    """

    def __init__(self, pairs: EncodedPairs, *, size: int, limit: int, low: float, high: float):
        count = min(limit, len(pairs))
        self.pairs = pairs
        self.size = size
        self.chosen_pairs = [position * len(pairs) // count for position in range(count)]
        self.timesteps = [grid_timestep(index, size, low=low, high=high) for index in range(size)]

    def __len__(self) -> int:
        """Judged pairs times timesteps."""
        return len(self.chosen_pairs) * self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        """As `TrainingDraws`; ``index`` is pair * size + timestep."""
        position, draw = divmod(index, self.size)
        item = self.pairs[self.chosen_pairs[position]]
        noise = draw_noise(item["chosen_latents"].shape, seed=0, pair_id=f"held-out {item['pair_id']}", draw=draw)
        return item | {"index": index, "noise": noise, "timestep": self.timesteps[draw]}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor | Conditioning]:
    """Items -> a batch: tensors stacked along a new first dimension, numbers as float32 [B]."""
    tensors, numbers = ("chosen_latents", "rejected_latents", "noise"), ("timestep", "preference", "weight", "index")
    batch = {name: torch.stack([item[name] for item in items]) for name in tensors}
    batch |= {name: torch.tensor([item[name] for item in items]) for name in numbers}
    return {**batch, "conditioning": stack_conditioning([item["conditioning"] for item in items])}
