"""Pick-a-Pic's columns (arXiv 2305.01569), which prefkit also writes (`prefkit.pairs.pick_a_pic`).

| column | becomes |
|---|---|
| `video_0`, `video_1` (prefkit's view) | the left and the right clip: paths relative to the file |
| `jpg_0`, `jpg_1`, where there are no videos | clips of one frame |
| `caption` | the condition and its text; rows without one belong together by their clips |
| `label_0`, `label_1` | a vote on `overall`: 1 and 0 left, 0 and 1 right, 0.5 and 0.5 tie |
| `has_label` false | no vote: the row is left out and counted |
| `model_0`, `model_1`, where they are there | generators |
| `user_id`, where it is there | the annotator, as `pick-a-pic-<user_id>`; else one, `pick-a-pic` |
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from prefkit.errors import PrefkitError
from prefkit.importing.manifest import word
from prefkit.importing.verdicts import Verdict, cell, read_rows
from prefkit.media import write_clip

CHOICES = {(1.0, 0.0): "left", (0.0, 1.0): "right", (0.5, 0.5): "tie"}
STILL_FPS = 25.0


def read_verdicts(source: Path, scratch: Path) -> list[Verdict]:
    """Reads rows of Pick-a-Pic; images become clips of one frame in `scratch`.

    Raises:
        PrefkitError: a column is missing, an image cannot be read, or labels are none of the three.
    """
    verdicts = []
    for number, row in enumerate(read_rows(source, ("label_0", "label_1")), start=1):
        if word(row.get("has_label")) in ("False", "false", "0"):
            continue
        caption, user = word(row.get("caption")), word(row.get("user_id"))
        verdicts.append(
            Verdict(
                row=number,
                left=_clip(source, number, row, 0, scratch),
                right=_clip(source, number, row, 1, scratch),
                choice=_choice(source, number, row),
                criterion="overall",
                annotator="pick-a-pic" if user is None else f"pick-a-pic-{user}",
                condition=caption,
                text=caption,
                generators=(word(row.get("model_0")), word(row.get("model_1"))),
            )
        )
    return verdicts


def _choice(source: Path, number: int, row: Mapping[str, Any]) -> str:
    said = (cell(source, number, row, "label_0"), cell(source, number, row, "label_1"))
    try:
        return CHOICES[float(said[0]), float(said[1])]
    except (ValueError, KeyError):
        raise PrefkitError(
            f"row {number} of {source} has the labels {' and '.join(said)}; expected 1 and 0, 0 and 1, or 0.5 and 0.5"
        ) from None


def _clip(source: Path, number: int, row: Mapping[str, Any], which: int, scratch: Path) -> Path:
    place = word(row.get(f"video_{which}"))
    if place is not None:
        return source.parent / place
    content = row.get(f"jpg_{which}")
    if not isinstance(content, bytes):
        raise PrefkitError(f"row {number} of {source} has neither video_{which} nor the bytes of jpg_{which}")
    path = scratch / f"{hashlib.sha256(content).hexdigest()[:16]}.mp4"
    if not path.exists():
        write_clip(path, _still(content, source, number), STILL_FPS, None)
    return path


def _still(content: bytes, source: Path, number: int) -> np.ndarray:
    """One frame, uint8 [1, H, W, 3], cut to even sides as video needs them."""
    try:
        image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise PrefkitError(f"row {number} of {source} has an image that cannot be read ({error})") from error
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    if not height or not width:
        raise PrefkitError(f"row {number} of {source} has an image of {image.shape[1]}×{image.shape[0]} pixels")
    return image[None, :height, :width]
