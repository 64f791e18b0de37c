"""The dataset's folder.

::

    README.md             the card; its header tells `datasets.load_dataset` about the configs
    croissant.json        the same for machines (MLCommons Croissant)
    prefkit.json          what made it: versions, options, the funnel, a fingerprint
    pairs/<split>.parquet rows of `prefkit.tables.PAIRS` with paths: what train-dpo reads
    clips/  latents/      one file per candidate
    conditions/<condition_id>/reference_image.png  audio.wav  skeleton.mp4
    pairs-<split>.parquet votes.parquet  clips.parquet     what `datasets` reads: clips by name, as Video
    pick-a-pic-<split>.parquet                             on request

`datasets` opens all configs of a repository with one builder; VideoFolder takes clips from columns that end
in `_file_name` of a table at the root. Paths are relative to the folder. A split without rows has no file.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.errors import PrefkitError
from prefkit.media import sha256_file
from prefkit.pairs.rows import CLIP_FILES, CONDITION_FILES, LATENT_FILES
from prefkit.pairs.splits import SPLITS
from prefkit.progress import track
from prefkit.tables import CANDIDATES, PAIRS, VOTES, content_id
from prefkit.workspace import Workspace

MARKER = "prefkit.json"
# The votes as they are published: with the two clips they are about.
VOTES_WITH_CLIPS = pa.schema(
    [*VOTES.schema, ("condition_id", pa.string()), ("candidate_a", pa.string()), ("candidate_b", pa.string())]
)
_CLIP_COLUMNS = ("candidate_id", "condition_id", "generator", "weights_hash", "adapter_hash", "settings", "seed")
CLIPS = pa.schema(
    [
        ("file_name", pa.string()),
        *[CANDIDATES.schema.field(name) for name in (*_CLIP_COLUMNS, "sha256", "fps", "num_frames", "round")],
        ("identity", pa.string()),
        ("split", pa.string()),
        ("latents", pa.string()),
    ]
)

Row = dict[str, Any]


def check_output(folder: Path) -> None:
    """Raises PrefkitError where the folder holds something that is no dataset of prefkit's."""
    if not folder.exists() or (folder / MARKER).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise PrefkitError(f"{folder} exists and is no preference dataset; name an empty or a new folder")


def place_files(folder: Path, rows: Iterable[Row], workspace: Workspace) -> list[Row]:
    """Puts the files of all pairs into the dataset and returns the rows with their paths there."""
    return [_with_files(row, workspace, folder) for row in track(list(rows), "Building pairs")]


def write_tables(folder: Path, rows: list[Row], votes: pd.DataFrame, candidates: Iterable[Row]) -> None:
    """Writes all tables; the same rows give the same bytes."""
    names = {row[f"{side}_id"]: row[side] for row in rows for side in CLIP_FILES}
    for split in SPLITS:
        part = [row for row in rows if row["split"] == split]
        if part:  # `datasets` cannot open a Parquet file without rows
            table = pa.Table.from_pylist(part, schema=PAIRS.schema)
            _write(table, folder / "pairs" / f"{split}.parquet")
            _write(_by_file_name(table), folder / f"pairs-{split}.parquet")
    clips = pa.Table.from_pylist(_clip_rows(rows, names, candidates), schema=CLIPS)
    _write(clips, folder / "clips.parquet")
    if len(votes):
        table = pa.Table.from_pandas(votes, schema=VOTES_WITH_CLIPS, preserve_index=False).replace_schema_metadata(None)
        for side in "ab":
            files = [names.get(name) for name in table[f"candidate_{side}"].to_pylist()]
            table = table.append_column(f"clip_{side}_file_name", pa.array(files, pa.string()))
        _write(table, folder / "votes.parquet")


def published_votes(votes: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """The votes on these comparisons with their clips, once each and in order."""
    sides = comparisons[["comparison_id", "condition_id", "candidate_a", "candidate_b"]]
    published = votes.merge(sides, on="comparison_id", how="inner")
    return published.drop_duplicates("vote_id").reindex(columns=VOTES_WITH_CLIPS.names)


def fingerprint(folder: Path) -> str:
    """16 hex digits over the tables of pairs."""
    return content_id([(path.name, sha256_file(path)) for path in sorted((folder / "pairs").iterdir())])


def write_marker(folder: Path, summary: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Writes prefkit.json: what made the dataset."""
    made_by = {"prefkit": version("prefkit"), "pyarrow": pa.__version__}
    write_json(folder / MARKER, {"format": 2, "made_by": made_by, "options": dict(options), **summary})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file that people can read too."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _with_files(row: Row, workspace: Workspace, folder: Path) -> Row:
    places = {name: f"conditions/{row['condition_id']}/{name}" for name in CONDITION_FILES}
    for side, latents in zip(CLIP_FILES, LATENT_FILES, strict=True):
        places[side] = f"clips/{row[f'{side}_id']}"
        places[latents] = f"latents/{row[f'{side}_id']}"
    published = dict(row)
    for name, place in places.items():
        if row[name] is None:
            continue
        source = workspace.path(row[name])
        published[name] = place + source.suffix
        _link(source, folder / published[name])
    return published


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system can, else a copy; prefkit replaces files and never edits them."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _by_file_name(table: pa.Table) -> pa.Table:
    return table.rename_columns([f"{name}_file_name" if name in CLIP_FILES else name for name in table.column_names])


def _clip_rows(rows: list[Row], names: Mapping[str, str], candidates: Iterable[Row]) -> list[Row]:
    known = {row["candidate_id"]: row for row in candidates}
    found: dict[str, Row] = {}
    for row in rows:
        for side in CLIP_FILES:
            name = row[f"{side}_id"]
            shared = {column: row[column] for column in ("identity", "split")}
            columns = known[name]
            found[name] = columns | shared | {"file_name": names[name], "latents": row[f"{side}_latents"]}
    return [{field.name: found[name].get(field.name) for field in CLIPS} for name in sorted(found)]


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)
