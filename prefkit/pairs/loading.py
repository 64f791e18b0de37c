"""Opens a dataset for work on this machine: absolute paths."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.errors import PrefkitError
from prefkit.pairs.layout import MARKER
from prefkit.pairs.rows import CLIP_FILES, CONDITION_FILES, LATENT_FILES
from prefkit.pairs.splits import SPLITS
from prefkit.tables import PAIRS

if TYPE_CHECKING:
    import datasets


def load_pairs(path: str | Path) -> "datasets.DatasetDict":
    """Opens a dataset that `build_pairs` wrote, with absolute paths and its clips as `datasets.Video`.

    Args:
        path: the dataset's folder.

    Returns:
        The splits with rows. `chosen` and `rejected` are `Video(decode=False)` ({"path", "bytes": None});
        latents, portrait, speech and skeleton are absolute paths.

    Raises:
        PrefkitError: the folder is no such dataset.
    """
    import datasets

    root = Path(path).resolve()
    files = {split: root / "pairs" / f"{split}.parquet" for split in SPLITS}
    files = {split: file for split, file in files.items() if file.exists()}
    if not (root / MARKER).exists() or not files:
        raise PrefkitError(f"{path} is no preference dataset (it has no {MARKER}); make one with 'prefkit build-pairs'")
    loaded = datasets.DatasetDict()
    for split, file in files.items():
        table = pq.read_table(file, schema=PAIRS.schema)
        for name in (*CLIP_FILES, *LATENT_FILES, *CONDITION_FILES):
            absolute = [None if value is None else str(root / value) for value in table[name].to_pylist()]
            column = pa.array(absolute, pa.string())
            table = table.set_column(table.schema.get_field_index(name), name, column)
        dataset = datasets.Dataset(table, split=datasets.NamedSplit(split))
        for name in CLIP_FILES:
            dataset = dataset.cast_column(name, datasets.Video(decode=False))
        loaded[split] = dataset
    return loaded
