"""A dataset for others: clips inside the tables, and an upload to the Hugging Face Hub."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.cards import dataset_card
from prefkit.croissant import croissant
from prefkit.errors import PrefkitError
from prefkit.pairs.layout import MARKER, VOTES_WITH_CLIPS, write_json
from prefkit.pairs.rows import LATENT_FILES
from prefkit.pairs.splits import SPLITS
from prefkit.progress import track
from prefkit.tables import PAIRS
from prefkit.workspace import atomic_folder

# Rows written at a time: a reader of one row fetches this many clips at most.
ROWS_PER_GROUP = 16


def embed_clips(dataset: str | Path, output: str | Path) -> dict[str, Any]:
    """Writes a release of a dataset: clips, portraits and speech as bytes inside its tables of pairs.

    Every row stands for itself, so it streams from anywhere without other files; a clip is stored once per
    pair it is in. Latents stay behind (they belong to one model), and so does the list of clips.

    Args:
        dataset: a folder of `build_pairs`.
        output: the release's folder; a release there is replaced.

    Returns:
        pairs (split -> rows) and bytes (of all files).

    Raises:
        PrefkitError: `dataset` is none, a file of it is missing, or `output` holds something else.
    """
    import datasets

    root, folder = Path(dataset), Path(output)
    _marker(root)
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise PrefkitError(f"{folder} exists and is no release; name an empty or a new folder")
    kinds = {"chosen": "Video", "rejected": "Video", "skeleton": "Video", "reference_image": "Image", "audio": "Audio"}
    features = datasets.Features.from_arrow_schema(
        pa.schema([field for field in PAIRS.schema if field.name not in LATENT_FILES])
    )
    features |= {name: getattr(datasets, kind)() for name, kind in kinds.items()}
    schema = datasets.Features(features).arrow_schema
    found = {}
    with atomic_folder(folder) as temporary:
        (temporary / "pairs").mkdir()
        for split in SPLITS:
            source = root / "pairs" / f"{split}.parquet"
            if source.exists():
                rows = pq.read_table(source, schema=PAIRS.schema).to_pylist()
                found[split] = len(rows)
                _write_embedded(rows, root, tuple(kinds), schema, temporary / "pairs" / source.name)
        if (root / "votes.parquet").exists():
            votes = pq.read_table(root / "votes.parquet", columns=VOTES_WITH_CLIPS.names)
            (temporary / "votes").mkdir()
            pq.write_table(votes, temporary / "votes" / "votes.parquet")
        card = dataset_card(_marker(root)["card"], release=True)
        (temporary / "README.md").write_text(card)
        (temporary / MARKER).write_text((root / MARKER).read_text())
        write_json(temporary / "croissant.json", croissant(temporary, card))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"pairs": found, "bytes": size}


def push_to_hub(
    folder: str | Path,
    repository: str,
    *,
    private: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Uploads a dataset or a release as one commit; what the repository has beyond it is removed.

    Args:
        folder: of `build_pairs` or `embed_clips`.
        repository: "owner/name"; made if it is not there.
        private: whether only its owner may read it, where it is made now.
        token: of the Hub; by default the one that `hf auth login` stored.
        endpoint: another server of the Hub's interface.

    Returns:
        The address of the commit.

    Raises:
        PrefkitError: the folder is no dataset, a public one lacks licence or consent, or the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    root = Path(folder)
    _marker(root)
    if not private:
        _check_consent(root)
    hub = HfApi(endpoint=endpoint, token=token)
    try:
        hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=root,
            commit_message="Upload a preference dataset made by prefkit",
            delete_patterns=["*"],
        )
    # whichever HTTP library the client uses, its errors are OSErrors or share a base with HfHubHTTPError
    except (OSError, HFValidationError, *HfHubHTTPError.__bases__) as error:  # type: ignore[misc]
        why = " ".join(str(error).split())
        raise PrefkitError(
            f"{repository} was not uploaded ({why}); check the name, the connection, and 'hf auth login'"
        ) from error
    return str(commit.commit_url)


def _marker(folder: Path) -> dict[str, Any]:
    path = folder / MARKER
    if not path.exists():
        raise PrefkitError(
            f"{folder} is no preference dataset (it has no {MARKER}); make one with 'prefkit build-pairs'"
        )
    found = json.loads(path.read_text())
    if "card" not in found:
        raise PrefkitError(f"{folder} was written by an older prefkit; build the pairs again")
    return found


def _check_consent(folder: Path) -> None:
    card = _marker(folder)["card"]
    for name, counts in (("licence", card["licences"]), ("consent", card["consents"])):
        missing = dict(map(tuple, counts)).get("not recorded")
        if missing and not (name == "consent" and card["num_synthetic"] == card["num_conditions"]):
            raise PrefkitError(
                f"the {name} of {missing} conditions in {folder} is not recorded; record it in the manifest of "
                "'prefkit import', or upload to a private repository"
            )


def _write_embedded(
    rows: list[dict[str, Any]], root: Path, names: tuple[str, ...], schema: pa.Schema, to: Path
) -> None:
    with pq.ParquetWriter(to, schema) as writer:
        for start in track(range(0, len(rows), ROWS_PER_GROUP), f"Embedding {to.stem}"):
            part = [
                {**row, **{name: _embedded(root, row[name]) for name in names}}
                for row in rows[start : start + ROWS_PER_GROUP]
            ]
            writer.write_table(pa.Table.from_pylist(part, schema=schema))


def _embedded(root: Path, place: str | None) -> dict[str, Any] | None:
    if place is None:
        return None
    path = root / place
    if not path.is_file():
        raise PrefkitError(f"{path}, which the dataset names, does not exist; build the pairs again")
    return {"bytes": path.read_bytes(), "path": path.name}
