"""What a user already knows of a clip: face boxes, landmarks, keypoints, one file a clip.

::

    FOLDER/<candidate_id>.npz        or .parquet; or named as the imported clip: <stem>.npz
        boxes      float [T, 4]      left, top, right, bottom of the face in pixels; NaN where there is none
        landmarks  float [T, 68, 2]  x, y in pixels, iBUG's order
        keypoints  float [T, K, 3]   x, y in pixels and a confidence, in the order of the driving keypoints
        reference_landmarks  float [68, 2], of the condition's reference image

A Parquet file has one row a frame and these names as columns of flat lists.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from prefkit.metrics.metric import NotScored

SHAPES: Mapping[str, tuple[int, ...]] = {
    "boxes": (-1, 4),
    "landmarks": (-1, 68, 2),
    "keypoints": (-1, 0, 3),  # 0: any number of points
    "reference_landmarks": (68, 2),
}


def supplied_file(folder: Path, names: tuple[str | None, ...]) -> Path | None:
    """The file about a clip that goes by one of these names, or None."""
    for name in names:
        for suffix in (".npz", ".parquet"):
            if name and (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
    return None


def read_supplied(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a supplied file by name; names that prefkit does not know are left out.

    Raises:
        NotScored: the file cannot be read, or an array has another shape.
    """
    try:
        found = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotScored("bad_input", f"the supplied file of this clip cannot be read ({first})") from None
    if not found:
        raise NotScored("bad_input", f"the supplied file of this clip has none of {', '.join(SHAPES)}")
    return {name: _shaped(name, array) for name, array in found.items()}


def for_frames(supplied: Mapping[str, np.ndarray], name: str, num_frames: int) -> np.ndarray:
    """A supplied array that must have one entry a frame.

    Raises:
        NotScored: it has another number of them.
    """
    array = supplied[name]
    if len(array) != num_frames:
        raise NotScored(
            "bad_input",
            f"the supplied {name} are of {len(array)} frames and the clip has {num_frames}; one each is expected",
        )
    return array


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:  # without pickles
        return {name: np.asarray(stored[name], np.float64) for name in SHAPES if name in stored.files}


def _read_parquet(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    return {name: np.array(table[name].to_pylist(), np.float64) for name in SHAPES if name in table.column_names}


def _shaped(name: str, array: np.ndarray) -> np.ndarray:
    wanted = SHAPES[name]
    # a Parquet cell is a flat list, so only the number of numbers is checked
    rows = len(array) if wanted[0] == -1 else 1
    numbers = int(np.prod([size for size in wanted if size > 0]))
    if array.size == 0 or array.size % (rows * numbers) or (0 not in wanted and array.size != rows * numbers):
        raise NotScored(
            "bad_input",
            f"the supplied {name} are of shape {list(array.shape)}; expected {_words(wanted)}",
        )
    return array.reshape([rows, -1, *wanted[2:]] if 0 in wanted else [rows if size == -1 else size for size in wanted])


def _words(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join({-1: "frames", 0: "points"}.get(size, str(size)) for size in shape) + "]"
