"""What the policy is compared with, and what is known of it before training starts.

The reference is the model with its adapter off, a frozen copy, a copy that follows the policy ("synced";
with `ref_model_sync_steps` 1 a moving average), or "cached": its errors at each (pair, draw) are computed
once and kept, since noise and timestep follow from (seed, pair, draw). Held-out pairs are always judged
against the untuned model, whose numbers on the grid are computed the same way.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from prefkit.backbones.contract import Backbone
from prefkit.errors import PrefkitError
from prefkit.progress import track
from prefkit.tables import content_id
from prefkit.workspace import atomic_write
from trainers.disk import full_disk_is_a_sentence
from trainers.draws import EvaluationGrid, TrainingDraws, collate

SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("draw", pa.int32()),
        ("chosen_error", pa.float32()),
        ("rejected_error", pa.float32()),
        ("chosen_norm", pa.float32()),  # root mean square of the prediction
        ("rejected_norm", pa.float32()),
    ]
)
# Written every so many batches, so that an interrupted run goes on from there.
BATCHES_PER_FILE = 64

Key = tuple[str, int]
Numbers = tuple[float, float, float, float]
# A batch of `collate` -> [P, 4]: errors on chosen and rejected, norms of both predictions
Measure = Callable[[dict[str, Any]], torch.Tensor]


@contextlib.contextmanager
def adapter_off(backbone: Backbone) -> Iterator[None]:
    """Switches a LoRA adapter off for the block."""
    # the model's own disable_adapters() reads PEFT's version from disk at every call
    layers = [module for module in backbone.model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def frozen_copy(backbone: Backbone) -> Backbone:
    """The same backbone around a copy of its denoiser that does not train."""
    frozen = copy.copy(backbone)
    frozen.model = copy.deepcopy(backbone.model).requires_grad_(False)
    return frozen


class ReferenceCache:
    """The reference's numbers at each (pair, draw), in Arrow files of a folder named by their fingerprint.

    Args:
        cache_folder: where caches of all runs lie; None keeps it in memory.
        about: what the numbers follow from, as JSON: weights, dataset, seed, draws, timesteps, precision.

    Raises:
        PrefkitError: the folder holds numbers of something else, or files that cannot be read.
    """

    def __init__(self, cache_folder: Path | None, about: dict[str, Any]):
        self.about = about
        self.folder = None if cache_folder is None else cache_folder / f"reference-{content_id(about)}"
        self._known: dict[Key, Numbers] = {}
        self.read()

    def read(self) -> None:
        """Takes in what lies in the folder."""
        if self.folder is None or not self.folder.exists():
            return
        self._check_about(self.folder / "about.json")
        for path in sorted(self.folder.glob("part-*.arrow")):
            try:
                with pa.OSFile(str(path)) as file:
                    rows = pa.ipc.open_file(file).read_all()
                columns = [rows[name].to_pylist() for name in SCHEMA.names]
            except (pa.ArrowInvalid, KeyError) as error:
                raise PrefkitError(f"{path} cannot be read ({error}); remove it, its numbers are made again") from None
            for pair_id, draw, *numbers in zip(*columns, strict=True):
                self._known[pair_id, draw] = tuple(numbers)  # type: ignore[assignment]

    def _check_about(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = None
        if found == self.about:
            return
        differing = [name for name in self.about if not found or found.get(name) != self.about[name]]
        raise PrefkitError(
            f"{path.parent} holds the reference's numbers for another {', '.join(differing).replace('_', ' ')} "
            f"than this run's ({', '.join(str(self.about[name]) for name in differing)}); "
            "remove the folder, it is made again"
        )

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def numbers(self, key: Key) -> Numbers:
        """Errors on chosen and rejected, norms of the predictions on both."""
        return self._known[key]

    def errors(self, pair_id: str, draw: int) -> tuple[float, float]:
        """Errors on the chosen and the rejected clip."""
        return self._known[pair_id, draw][:2]

    def hold(self, rows: Sequence[tuple[Key, Sequence[float]]]) -> None:
        """Takes numbers in that another process has written."""
        for key, numbers in rows:
            self._known[key] = tuple(numbers)  # type: ignore[assignment]

    def add(self, rows: Sequence[tuple[Key, Sequence[float]]]) -> None:
        """Takes numbers in and writes them, whole or not at all."""
        self.hold(rows)
        if self.folder is None or not rows:
            return
        table = pa.Table.from_pylist(
            [dict(zip(SCHEMA.names, (*key, *numbers), strict=True)) for key, numbers in rows], schema=SCHEMA
        )
        first = rows[0][0]
        with full_disk_is_a_sentence(self.folder):
            if not (self.folder / "about.json").exists():
                with atomic_write(self.folder / "about.json") as temporary:
                    temporary.write_text(json.dumps(self.about, indent=2) + "\n")
            with atomic_write(self.folder / f"part-{content_id(first, len(rows))}.arrow") as temporary:
                with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
                    writer.write_table(table)


def fill(
    cache: ReferenceCache,
    dataset: TrainingDraws | EvaluationGrid,
    entries: Iterable[int],
    measure: Measure,
    *,
    batch_size: int,
    description: str,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Measures the entries of a dataset that the cache lacks.

    Args:
        cache: is added to.
        dataset: what the entries are of.
        entries: their indices.
        measure: the reference's numbers of a batch.
        batch_size: entries at a time.
        description: of the progress bar.
        share: (process, processes): this process takes every so-manieth batch.
    """
    missing = [index for index in entries if any(key not in cache for key in keys(dataset, index))]
    batches = [missing[start : start + batch_size] for start in range(0, len(missing), batch_size)]
    batches = batches[share[0] :: share[1]]
    rows: list[tuple[Key, Sequence[float]]] = []
    shown = track(batches, description) if batches and share[0] == 0 else batches
    for number, batch in enumerate(shown, start=1):
        measured = measure(collate([dataset[index] for index in batch])).tolist()
        rows += zip((key for index in batch for key in keys(dataset, index)), measured, strict=True)
        if number % BATCHES_PER_FILE == 0 or number == len(batches):
            cache.add(rows)
            rows = []


def keys(dataset: TrainingDraws | EvaluationGrid, index: int) -> list[Key]:
    """The (pair_id, draw) of each pair of an entry; those of the held-out grid are told apart."""
    places, draw = dataset.place(index)
    held_out = "held-out " if isinstance(dataset, EvaluationGrid) else ""
    return [(held_out + dataset.pairs.rows[place]["pair_id"], draw) for place in places]
