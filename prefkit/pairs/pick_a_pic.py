"""The pairs in Pick-a-Pic's columns, which trainers of image models read: the middle frame of each clip.

`pick-a-pic/<split>.parquet` has jpg_0, jpg_1 (JPEG bytes), label_0, label_1 (1 for the preferred one),
caption, are_different, has_label, image_0_uid, image_1_uid, best_image_uid, ranking_id and
num_example_per_prompt as in Pick-a-Pic (arXiv 2305.01569), and video_0, video_1: the clips, relative to the
file. Which clip is number 0 follows from the names, not from the preference.
"""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from prefkit.media import count_frames, iter_frames
from prefkit.pairs.splits import SPLITS

FOLDER = "pick-a-pic"
SCHEMA = pa.schema(
    [
        ("ranking_id", pa.string()),
        ("caption", pa.string()),
        *[(f"jpg_{number}", pa.binary()) for number in (0, 1)],
        *[(f"label_{number}", pa.float64()) for number in (0, 1)],
        *[(f"image_{number}_uid", pa.string()) for number in (0, 1)],
        ("best_image_uid", pa.string()),
        ("are_different", pa.bool_()),
        ("has_label", pa.bool_()),
        ("num_example_per_prompt", pa.int64()),
        *[(f"video_{number}", pa.string()) for number in (0, 1)],
    ]
)


def write_view(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Writes one file per split that has pairs.

    Args:
        folder: the dataset's, with its clips in place.
        rows: of `prefkit.tables.PAIRS` with paths relative to `folder`.
    """
    per_prompt = Counter((row["split"], row["condition_id"]) for row in rows)
    for split in SPLITS:
        part = [_row(folder, row, per_prompt[split, row["condition_id"]]) for row in rows if row["split"] == split]
        if part:
            (folder / FOLDER).mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(part, schema=SCHEMA), folder / FOLDER / f"{split}.parquet")


def middle_frame(path: Path) -> bytes:
    """The middle frame of a clip as JPEG."""
    wanted = count_frames(path) // 2
    frame = next(frame for index, (frame, _) in enumerate(iter_frames(path)) if index == wanted)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _row(folder: Path, pair: dict[str, Any], per_prompt: int) -> dict[str, Any]:
    sides = sorted(("chosen", "rejected"), key=lambda side: pair[f"{side}_id"])
    row: dict[str, Any] = {
        "ranking_id": pair["pair_id"],
        "caption": pair["prompt"] or "",
        "best_image_uid": pair["chosen_id"],
        "are_different": True,
        "has_label": True,
        "num_example_per_prompt": per_prompt,
    }
    for number, side in enumerate(sides):
        row[f"jpg_{number}"] = middle_frame(folder / pair[side])
        row[f"label_{number}"] = float(side == "chosen")
        row[f"image_{number}_uid"] = pair[f"{side}_id"]
        row[f"video_{number}"] = f"../{pair[side]}"
    return row
