"""Clips and conditions of a dataset, encoded once and kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from prefkit.backbones.contract import Backbone
from prefkit.errors import PrefkitError
from prefkit.media import SAMPLE_RATE, count_frames, read_audio, read_clip, read_image
from prefkit.progress import track
from prefkit.tables import content_id
from prefkit.workspace import atomic_write
from trainers.dataset import FileHashes, Row
from trainers.disk import check_room, full_disk_is_a_sentence, gigabytes
from trainers.weighting import frame_weight_map

# Above this, tensors are read from the cache at every use instead of being held in memory.
IN_MEMORY_BYTES = 4 * 2**30

# A pair's row and the latent shape [C, F, h, w] -> error weights that broadcast to it, or None for equal ones.
WeightMap = Callable[[Row, tuple[int, ...]], torch.Tensor | None]


@dataclass(frozen=True)
class EncodedPairs:
    """The pairs of a split with the files that hold their tensors.

    A clip longer than one forward takes makes one entry for each of its windows.

    Attributes:
        rows: as `trainers.dataset.read_pairs` gave them, with ``start`` and ``stop``: the frames of the
            window. The pair_id of a later window ends with ``@start``.
        weights: of each entry, of mean 1.
        load: path -> the tensors in it.
        chosen: per entry, the file with the chosen clip's latents.
        rejected: likewise.
        conditions: per entry, the file with its encoded condition.
        weight_map: weights of the errors over latent space, for all rows; see `WeightMap`.
    """

    rows: Sequence[Row]
    weights: Sequence[float]
    load: Callable[[Path], dict[str, torch.Tensor]]
    chosen: Sequence[Path]
    rejected: Sequence[Path]
    conditions: Sequence[Path]
    weight_map: WeightMap | None = None
    _maps: dict[int, torch.Tensor | None] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One pair: its ids, latents [C, F, h, w], conditioning, numbers, and loss_map (or None)."""
        row = self.rows[index]
        preference, ties = row["preference"], row["tie_probability"]
        chosen = self.load(self.chosen[index])["latents"].float()
        return {
            "pair_id": row["pair_id"],
            "criterion": row["criterion"],
            "chosen_latents": chosen,
            "rejected_latents": self.load(self.rejected[index])["latents"].float(),
            "conditioning": self.load(self.conditions[index]),
            "preference": 1.0 if preference is None else float(preference),
            "tie_probability": 0.0 if ties is None else float(ties),
            "weight": self.weights[index],
            "loss_map": self._loss_map(index, tuple(chosen.shape)),
        }

    def _loss_map(self, index: int, shape: tuple[int, ...]) -> torch.Tensor | None:
        if index not in self._maps:
            row = self.rows[index]
            marks = row.get("frame_weights")
            over_time = frame_weight_map(None if marks is None else marks[row["start"] : row["stop"]], shape[1])
            over_space = None if self.weight_map is None else self.weight_map(row, shape)
            parts = [part for part in (over_time, over_space) if part is not None]
            self._maps[index] = torch.stack(torch.broadcast_tensors(*parts)).prod(0) if parts else None
        return self._maps[index]


def encode_pairs(
    folder: str | Path,
    rows: Sequence[Row],
    backbone: Backbone,
    cache_folder: str | Path,
    *,
    max_windows: int = 1,
    weight_map: WeightMap | None = None,
) -> EncodedPairs:
    """Encodes each condition and each clip of a split once.

    What is encoded stays in ``cache_folder/<weights_hash>-<size>/`` under a name made from the contents it
    came from, so a later run finds it. Latents that the dataset keeps beside its clips are used as they
    are, unless their file says that other weights made them. Clips longer than one forward takes are
    cut into windows, both at the same places, with their sound and skeleton; the context of every
    window is the condition's portrait, for both, and never a clip's own previous frame.

    Args:
        folder: of the dataset.
        rows: of its split.
        backbone: what encodes.
        cache_folder: where encoded tensors are kept.
        max_windows: at most so many windows of a clip, from its beginning.
        weight_map: weights of the errors over latent space.

    Raises:
        PrefkitError: a file is missing or unreadable, the clips of a pair differ in length or size,
            latents are not finite, or the disk is full.
    """
    folder = Path(folder)
    height, width = backbone.frame_size
    encoder = _Encoder(folder, Path(cache_folder) / f"{backbone.weights_hash}-{width}x{height}", backbone)
    windows = [window for row in rows for window in encoder.windows(row, max_windows)]
    missing = encoder.missing(windows)
    if missing:
        forecast = f"Encoding clips and conditions (about {gigabytes(encoder.forecast(missing))} on disk)"
        for work in track(missing, forecast):
            work()

    pairs = EncodedPairs(
        rows=windows,
        weights=_mean_one([row["weight"] for row in windows]),
        load=_Loader(),
        chosen=[encoder.latents_path(row, "chosen") for row in windows],
        rejected=[encoder.latents_path(row, "rejected") for row in windows],
        conditions=[encoder.condition_path(row) for row in windows],
        weight_map=weight_map,
    )
    _check_pairs(pairs)
    return pairs


class _Encoder:
    """Knows where an encoded clip or condition lies, and makes it."""

    def __init__(self, folder: Path, cache: Path, backbone: Backbone):
        self.folder = folder
        self.cache = cache
        self.backbone = backbone
        self.hashes = FileHashes(folder)

    def windows(self, row: Row, most: int) -> list[Row]:
        """The row for each window of its clips, one after another; their weights add up to the row's."""
        frames = self._num_frames(row)
        whole = max(1, min(most, frames // self.backbone.num_frames))
        weight = 1.0 if row["weight"] is None else row["weight"]
        starts = [number * self.backbone.num_frames for number in range(whole)]
        return [
            {
                **row,
                "pair_id": f"{row['pair_id']}@{start}" if start else row["pair_id"],
                "weight": weight / whole,
                "start": start,
                "stop": start + _window(frames - start, self.backbone.num_frames),
                "cut": frames > self.backbone.num_frames,
            }
            for start in starts
        ]

    def _num_frames(self, row: Row) -> int:
        if row["num_frames"] is not None:
            return int(row["num_frames"])
        self.hashes(row["chosen"])  # says so where it is missing
        return count_frames(self.folder / row["chosen"])

    def missing(self, rows: Sequence[Row]) -> list[Callable[[], int]]:
        """What is to be done; each returns the bytes it wrote. The first two are of either kind."""
        conditions: dict[Path, Callable[[], int]] = {}
        clips: dict[Path, Callable[[], int]] = {}
        for row in rows:
            path = self.condition_path(row)
            if not path.exists():
                conditions.setdefault(path, partial(self._encode_condition, row))
            for side in ("chosen", "rejected"):
                path = self.latents_path(row, side)
                if not path.exists():
                    clips.setdefault(path, partial(self._encode_clip, row, side))
        self._conditions_to_do = len(conditions)
        return [*conditions.values(), *clips.values()]

    def forecast(self, work: list[Callable[[], int]]) -> int:
        """Bytes that the work will write, by its first condition and its first clip, which are made here.

        Raises:
            PrefkitError: they would not fit on the disk.
        """
        conditions = self._conditions_to_do
        sizes = [work[place]() for place in sorted({0, min(conditions, len(work) - 1)})]
        total = sizes[0] * (conditions or len(work)) + (sizes[-1] * (len(work) - conditions) if conditions else 0)
        check_room(self.cache, total - sum(sizes), "the encoded clips and conditions")
        return total

    def condition_path(self, row: Row) -> Path:
        for column in ("reference_image", "audio", "skeleton"):
            if row[column] is None:
                raise PrefkitError(
                    f"pair {row['pair_id']} has no {column}, which {self.backbone.name} is conditioned on; "
                    "leave the pair out, or give its condition one"
                )
        parts = [self.hashes(row[column]) for column in ("reference_image", "audio", "skeleton")]
        name = content_id(*parts, row["prompt"], self.backbone.num_frames, *_place(row))
        return self.cache / f"condition-{name}.safetensors"

    def latents_path(self, row: Row, side: str) -> Path:
        kept = row[f"{side}_latents"]
        if kept is not None and not row["cut"] and self._made_by_this_backbone(kept):
            return self.folder / kept
        name = content_id(self.hashes(row[side]), self.backbone.num_frames, *_place(row))
        return self.cache / f"clip-{name}.safetensors"

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

    def _encode_condition(self, row: Row) -> int:
        if self.condition_path(row).exists():
            return self.condition_path(row).stat().st_size
        skeleton = read_clip(self.folder / row["skeleton"])
        self._check_fps(skeleton.fps, row["skeleton"])
        frames = skeleton.frames[row["start"] :]
        frames = frames[: _window(len(frames), self.backbone.num_frames)]
        ends = row["start"], row["start"] + len(frames)
        first, last = (round(frame / self.backbone.fps * SAMPLE_RATE) for frame in ends)
        audio = read_audio(self.folder / row["audio"])[first:last]
        portrait = read_image(self.folder / row["reference_image"])
        with torch.no_grad():
            conditioning = self.backbone.encode_condition(portrait, audio, frames, row["prompt"])
        return self._save(self.condition_path(row), conditioning)

    def _encode_clip(self, row: Row, side: str) -> int:
        if self.latents_path(row, side).exists():
            return self.latents_path(row, side).stat().st_size
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
        frames = clip.frames[row["start"] :]
        with torch.no_grad():
            latents = self.backbone.encode_clip(frames[: _window(len(frames), self.backbone.num_frames)])
        return self._save(self.latents_path(row, side), {"latents": latents})

    def _check_fps(self, fps: float, name: str) -> None:
        if abs(fps - self.backbone.fps) > 0.01:
            raise PrefkitError(
                f"{self.folder / name} runs at {fps:g} frames a second, expected {self.backbone.fps:g} as "
                f"{self.backbone.name} makes; convert it first"
            )

    def _save(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> int:
        with full_disk_is_a_sentence(path.parent), atomic_write(path) as temporary:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)
        return path.stat().st_size


def _place(row: Row) -> tuple[int, ...]:
    return (row["start"],) if row["start"] else ()


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
