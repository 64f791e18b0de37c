"""Copies of clips that browsers cannot play: H.264 beside the original, made once, the original stays."""

import functools
import threading
from pathlib import Path

from prefkit.media import iter_frames, probe, write_clip

_PIXELS = {"yuv420p", "yuvj420p"}
_CONTAINERS = {".mp4", ".m4v", ".mov"}
_making = threading.Lock()  # one at a time: encoding takes every core there is


@functools.lru_cache(100_000)
def playable(path: Path) -> bool:
    """Whether every browser plays this file: H.264 of 8 bits, 4:2:0, in an MP4."""
    found = probe(path)
    return path.suffix.lower() in _CONTAINERS and found.codec == "h264" and found.pix_fmt in _PIXELS


def proxy_of(path: Path, folder: Path, name: str) -> Path:
    """The file to play for a clip: itself, or its H.264 copy `folder`/`name`.mp4, made if it is missing.

    The copy has the same frames at the same rate, and no sound: that is served apart, from the original.

    Raises:
        MediaError: the clip cannot be read.
    """
    copy = folder / f"{name}.mp4"
    if copy.exists():
        return copy
    if playable(path):
        return path
    with _making:
        if not copy.exists():
            write_clip(copy, (frame for frame, _ in iter_frames(path)), probe(path).fps or 25.0, crf=16)
    return copy
