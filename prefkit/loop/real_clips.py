"""Both models' clips against real ones, as whole sets: measures that rank models and never two clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.importing.manifest import is_clip
from prefkit.media import sha256_file
from prefkit.metrics.set_features import SetClip, set_scores
from prefkit.metrics.set_level import FEWEST
from prefkit.metrics.weight_files import weights_hash
from prefkit.tables import CONDITIONS, content_id
from prefkit.workspace import Workspace


def real_clips(folder: Path) -> list[Path]:
    """The videos of a folder, by name.

    Raises:
        PrefkitError: there are fewer than two.
    """
    found = sorted(path for path in folder.glob("*") if is_clip(path))
    if len(found) < FEWEST:
        raise PrefkitError(f"{folder} holds {len(found)} videos; expected at least {FEWEST} real clips to compare with")
    return found


def describe_real(folder: Path, weights: Mapping[str, Path]) -> dict[str, Any]:
    """What the distances depend on besides the models: folder, clips, fingerprint."""
    files = real_clips(folder)
    hashes = [sha256_file(path) for path in files], {name: weights_hash(path) for name, path in weights.items()}
    return {"folder": str(folder), "clips": len(files), "fingerprint": content_id(*hashes)}


def against_real(
    workspace: Workspace,
    models: Mapping[str, Sequence[Mapping[str, Any]]],
    folder: Path,
    weights: Mapping[str, Path],
) -> list[dict[str, Any]]:
    """Fréchet distances of each model's clips to the real ones.

    Args:
        workspace: has the clips and their conditions.
        models: base and tuned -> their candidates.
        folder: real clips; they are taken for drawn portraits where the conditions are.
        weights: of the extractors (`prefkit.metrics.set_features.set_scores`).

    Returns:
        Rows of `prefkit.metrics.set_level.SetScore`, each with its `model`.
    """
    drawn = {row["condition_id"]: row["truth"] is not None for row in workspace.rows(CONDITIONS)}
    real = [SetClip(path.name, path, {"synthetic": all(drawn.values())}) for path in real_clips(folder)]
    rows = []
    for model, candidates in models.items():
        clips = [
            SetClip(row["candidate_id"], workspace.path(row["clip"]), {"synthetic": drawn[row["condition_id"]]})
            for row in candidates
        ]
        rows += [{"model": model} | score.row() for score in set_scores(real, clips, weights=weights)]
    return rows
