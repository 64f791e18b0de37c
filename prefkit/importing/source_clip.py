"""One existing clip: checked from beginning to end, then stored."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.importing.manifest import Row
from prefkit.media import (
    MediaError,
    NoSoundError,
    Probe,
    count_frames,
    iter_frames,
    probe,
    read_audio,
    sha256_file,
    write_clip,
)
from prefkit.tables import content_id
from prefkit.workspace import Workspace, atomic_write


@dataclass(frozen=True)
class SourceClip:
    """A clip that was read from beginning to end, and its row."""

    path: Path
    row: Row
    sha256: str
    probe: Probe
    num_frames: int
    seed: int | None
    fps: float
    has_sound: bool

    @classmethod
    def check(cls, row: Row, fps: float | None, sound_required: bool = True) -> "SourceClip":
        """Reads the clip of a row from beginning to end.

        Raises:
            PrefkitError: it cannot be read, or has no sound where one is required.
        """
        path = Path(str(row["clip"]))
        found = probe(path)
        if not found.has_audio and sound_required:
            raise MediaError(f"{path} has no sound; expected a clip with its speech, add it or leave the clip out")
        if found.fps <= 0:
            raise MediaError(f"{path} does not say its frame rate; convert it to mp4 first")
        num_frames = count_frames(path)
        has_sound = found.has_audio and _has_sound(path, sound_required)
        resampled = fps is not None and abs(found.fps - fps) > 0.01
        return cls(
            path, row, sha256_file(path), found, num_frames, _seed(row, path),
            fps if fps and resampled else found.fps, has_sound,
        )  # fmt: skip

    @property
    def condition_id(self) -> str:
        """Of the condition that the row names."""
        return content_id("imported", self.row["condition"])

    @property
    def generator(self) -> str:
        """What made it."""
        return self.row.get("generator") or "imported"

    @property
    def candidate_id(self) -> str:
        """Follows from the file, the condition, the generator and the seed."""
        made_from = [self.sha256, self.fps] if self.resampled else [self.sha256]
        return content_id("imported", self.condition_id, *made_from, self.generator, self.seed)

    @property
    def resampled(self) -> bool:
        """Whether its frame rate changes."""
        return self.fps != self.probe.fps

    @property
    def kept(self) -> bool:
        """Whether the file stays as it is: of the right frame rate, and every browser plays it (no HEVC, for one)."""
        codecs = {".mp4": ("h264", "av1"), ".m4v": ("h264",), ".webm": ("vp8", "vp9", "av1")}
        fits = self.probe.codec in codecs.get(self.path.suffix.lower(), ())
        return fits and self.probe.pix_fmt in ("yuv420p", "yuvj420p") and not self.resampled

    def store(self, workspace: Workspace) -> dict[str, Any]:
        """Puts the clip into the workspace and returns its row of candidates."""
        name = f"{self.sha256[:16]}-{self.fps:g}fps" if self.resampled else self.sha256[:16]
        place = f"clips/{name}{self.path.suffix.lower() if self.kept else '.mp4'}"
        target = workspace.path(place)
        settings: dict[str, Any] = {"source": self.path.name, "condition": self.row["condition"]}
        num_frames = self.num_frames
        if self.kept:
            copy_once(self.path, target)
        else:
            settings |= {"source_codec": self.probe.codec, "source_fps": self.probe.fps, "source_sha256": self.sha256}
            if not target.exists():
                sound = read_audio(self.path) if self.has_sound else None
                write_clip(target, _even_frames(self.path, self.probe.fps, self.fps), self.fps, sound)
            num_frames = probe(target).num_frames
        return {
            "candidate_id": self.candidate_id,
            "condition_id": self.condition_id,
            "generator": self.generator,
            "settings": json.dumps(settings, sort_keys=True),
            "seed": self.seed,
            "clip": place,
            "sha256": sha256_file(target),
            "fps": self.fps,
            "num_frames": num_frames,
            "round": 0,
        }


def _seed(row: Row, path: Path) -> int | None:
    text = row.get("seed")
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise PrefkitError(f"the seed of {path} is {text!r}; expected a whole number") from None


def _even_frames(path: Path, source_fps: float, fps: float) -> Iterator[np.ndarray]:
    """The frames at a constant rate: each moment shows the latest frame, so some come twice or not at all."""
    number = 0
    shown: np.ndarray | None = None
    end = 0.0
    for frame, seconds in iter_frames(path):
        while shown is not None and number < math.ceil(seconds * fps - 0.1):  # containers round times
            yield shown
            number += 1
        shown, end = frame, seconds + 1 / source_fps
    while shown is not None and number < max(1, math.floor(end * fps + 0.5)):
        yield shown
        number += 1


def copy_once(path: Path, target: Path) -> None:
    """Copies a file to a place whose name is its content."""
    if target.exists():
        return
    with atomic_write(target) as temporary:
        shutil.copyfile(path, temporary)


def _has_sound(path: Path, required: bool) -> bool:
    try:
        heard = len(read_audio(path)) > 0
    except NoSoundError:
        if required:
            raise
        return False
    if not heard and required:
        raise MediaError(f"the sound of {path} ends before its first frame; expected speech beside the frames")
    return heard
