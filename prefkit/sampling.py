"""Conditions -> candidates: clips that a backbone generates, with the seeds and settings that made them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from prefkit.backbones.contract import Backbone, Conditioning, stack_conditioning
from prefkit.errors import PrefkitError
from prefkit.media import read_audio, read_clip, read_image, sha256_file, write_clip
from prefkit.processes import Processes
from prefkit.progress import track
from prefkit.skeletons.resampling import resample_frames
from prefkit.tables import CANDIDATES, CONDITIONS, content_id
from prefkit.workspace import Workspace, atomic_write

Row = dict[str, Any]


def sample_candidates(
    workspace: Workspace,
    backbone: Backbone,
    *,
    per_condition: int = 4,
    split: str | None = None,
    seed: int = 0,
    round: int = 0,
    adapter_hash: str | None = None,
    num_inference_steps: int | None = None,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Samples the candidates that are missing.

    A clip follows from its condition, its own seed, the settings and the weights, whatever else is
    sampled with it. Seeds do not depend on the weights, so a tuned model meets the base on equal terms.
    Skeletons of another frame rate than the backbone's are resampled, longer ones cut to what it takes.

    Several processes (``accelerate launch``) take turns with the batches, and one of them writes the rows;
    batches are the same however many there are, so the rows are too.

    Args:
        workspace: read: conditions and their media; written: clips/, latents/ and rows of candidates.
        backbone: what generates, with its adapter loaded if there is one.
        per_condition: clips a condition shall have of these weights, settings and this seed.
        split: only conditions of this split; None for all.
        seed: what the clips' seeds follow from.
        round: of the loop, kept in the rows.
        adapter_hash: of the adapter, kept in the rows.
        num_inference_steps: None for the backbone's own.
        batch_size: clips generated at a time.

    Returns:
        made, already_there, failed (reason -> how many; these are tried again by the next call); the same
        in every process.

    Raises:
        PrefkitError: there are no conditions, none of this split, or a number below one.
    """
    if per_condition < 1 or batch_size < 1:
        raise PrefkitError(
            f"{per_condition} clips a condition, {batch_size} at a time were asked for; expected 1 or more"
        )
    conditions = _conditions(workspace, split)
    settings = json.dumps({} if num_inference_steps is None else {"num_inference_steps": num_inference_steps})
    wanted = [
        {
            "candidate_id": content_id(
                condition["condition_id"], backbone.name, backbone.weights_hash, adapter_hash, settings, clip_seed
            ),
            "condition_id": condition["condition_id"],
            "generator": backbone.name,
            "weights_hash": backbone.weights_hash,
            "adapter_hash": adapter_hash,
            "settings": settings,
            "seed": clip_seed,
            "fps": backbone.fps,
            "round": round,
        }
        for condition in conditions
        for clip_seed in _seeds(seed, condition["condition_id"], per_condition)
    ]
    done = {row["candidate_id"] for row in workspace.rows(CANDIDATES) if row["error"] is None}
    missing = [row for row in wanted if row["candidate_id"] not in done]
    encoder = _ConditionEncoder(workspace, backbone, {row["condition_id"]: row for row in conditions})
    failed: dict[str, int] = {}
    processes = Processes.current()
    batches = [missing[start : start + batch_size] for start in range(0, len(missing), batch_size)]
    turns = [batches[first : first + processes.count] for first in range(0, len(batches), processes.count)]
    for turn in track(turns, "Sampling") if processes.is_main else turns:
        own = turn[processes.rank] if processes.rank < len(turn) else []
        rows = processes.gather(_sample_batch(workspace, backbone, encoder, own, num_inference_steps))
        if processes.is_main:
            workspace.append(CANDIDATES, rows)
        for reason in (row["error"] for row in rows if row.get("error")):
            failed[reason] = failed.get(reason, 0) + 1
    processes.gather([])  # nobody goes on to the next stage before the rows are written
    return {"made": len(missing) - sum(failed.values()), "already_there": len(wanted) - len(missing), "failed": failed}


def _conditions(workspace: Workspace, split: str | None) -> list[Row]:
    conditions = workspace.rows(CONDITIONS)
    if not conditions:
        raise PrefkitError(
            f"{workspace.root} has no conditions to animate; add some with 'prefkit init --synthetic' "
            "or 'prefkit add-conditions'"
        )
    chosen = [row for row in conditions if split is None or row["split"] == split]
    if not chosen:
        splits = sorted({str(row["split"]) for row in conditions})
        raise PrefkitError(f"no condition is of the split {split!r}; there are {', '.join(splits)}")
    return chosen


def _seeds(seed: int, condition_id: str, count: int) -> list[int]:
    return [int(content_id("clip", seed, condition_id, number)[:8], 16) for number in range(count)]


class _ConditionEncoder:
    """Encodes a condition once for all of its candidates, which follow each other."""

    def __init__(self, workspace: Workspace, backbone: Backbone, conditions: dict[str, Row]):
        self.workspace, self.backbone, self.conditions = workspace, backbone, conditions
        self._last: tuple[str, Conditioning] | None = None

    def __call__(self, condition_id: str) -> Conditioning:
        if self._last is None or self._last[0] != condition_id:
            self._last = condition_id, self._encode(self.conditions[condition_id])
        return self._last[1]

    def _encode(self, condition: Row) -> Conditioning:
        lacking = [name for name in ("reference_image", "audio", "skeleton") if condition[name] is None]
        if lacking:
            raise PrefkitError(f"the condition has no {' and no '.join(lacking)}, which sampling needs")
        portrait, audio, skeleton = (
            self.workspace.path(condition[n]) for n in ("reference_image", "audio", "skeleton")
        )
        driving = read_clip(skeleton)
        frames = resample_frames(driving.frames, driving.fps, self.backbone.fps)
        longest = (min(len(frames), self.backbone.num_frames) - 1) // 4 * 4 + 1
        sound = read_audio(audio)
        return self.backbone.encode_condition(read_image(portrait), sound, frames[:longest], condition["text"])

    def audio_path(self, condition_id: str) -> Path:
        return self.workspace.path(self.conditions[condition_id]["audio"])


def _sample_batch(
    workspace: Workspace, backbone: Backbone, encoder: _ConditionEncoder, batch: Sequence[Row], steps: int | None
) -> list[Row]:
    """One row per clip: with its files, or with the reason why there is none."""
    ready, rows = [], []
    for row in batch:
        try:
            ready.append((row, encoder(row["condition_id"])))
        except PrefkitError as error:
            rows.append(row | {"error": str(error)})
    for group in _same_shapes(ready):
        conditioning = stack_conditioning([conditioning for _, conditioning in group])
        latents = backbone.sample(conditioning, [row["seed"] for row, _ in group], num_inference_steps=steps)
        rows += [
            _store(workspace, backbone, row, clip, encoder.audio_path(row["condition_id"]))
            for (row, _), clip in zip(group, latents, strict=True)
        ]
    return rows


def _same_shapes(ready: list[tuple[Row, Conditioning]]) -> list[list[tuple[Row, Conditioning]]]:
    """Clips of different lengths cannot share a batch."""
    groups: dict[tuple, list[tuple[Row, Conditioning]]] = {}
    for row, conditioning in ready:
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(conditioning.items()))
        groups.setdefault(shapes, []).append((row, conditioning))
    return list(groups.values())


def _store(workspace: Workspace, backbone: Backbone, row: Row, latents: torch.Tensor, audio: Path) -> Row:
    clip = f"clips/{row['candidate_id']}.mp4"
    kept = f"latents/{row['candidate_id']}.safetensors"
    frames = backbone.decode_clip(latents)
    sound = read_audio(audio)[: round(len(frames) / backbone.fps * 16_000)]
    write_clip(workspace.path(clip), frames, backbone.fps, sound)
    with atomic_write(workspace.path(kept)) as temporary:
        # the trainer encodes the clip anew when its backbone is another
        metadata = {"weights_hash": backbone.weights_hash}
        save_file({"latents": latents.cpu().contiguous()}, temporary, metadata)
    return row | {
        "clip": clip,
        "latents": kept,
        "sha256": sha256_file(workspace.path(clip)),
        "num_frames": len(frames),
    }
