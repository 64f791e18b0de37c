"""The comparisons that can be shown, and the files behind them."""

import functools
import io
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np

from annotation_ui.proxies import proxy_of
from annotation_ui.signing import Signer
from prefkit.errors import PrefkitError
from prefkit.media import SAMPLE_RATE, MediaError, NoSoundError, read_audio
from prefkit.skeletons.keypoints import read_keypoints
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS
from prefkit.votes.queue import Assignment
from prefkit.workspace import Workspace

PREFIX = "/prefkit"
_SOUND_RATE = 48_000
_FACE_KEYPOINTS = (0, 14, 15, 16, 17)  # nose, eyes, ears in COCO-18


class Comparisons:
    """The comparisons of a workspace that can be shown, with their clips.

    Raises:
        PrefkitError: there are none.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        candidates = workspace.read(CANDIDATES)
        candidates = candidates[candidates["clip"].notna()]
        self._clips: dict[str, str] = dict(zip(candidates["candidate_id"], candidates["clip"], strict=True))
        self._fps: dict[str, float] = dict(zip(candidates["candidate_id"], candidates["fps"], strict=True))
        rows = workspace.read(COMPARISONS)
        self.rows = rows[rows["candidate_a"].isin(self._clips) & rows["candidate_b"].isin(self._clips)]
        if self.rows.empty:
            raise PrefkitError(f"{workspace.root} has nothing to annotate; make comparisons with 'prefkit compare'")
        self._by_id = {row["comparison_id"]: row for row in self.rows.to_dict("records")}
        self._conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
        self._same_sound = functools.lru_cache(100_000)(self._compare_sounds)
        self._comparing = threading.Lock()  # who asks for a pair that is being compared waits for that result

    def describe(self, assignment: Assignment, signer: Signer) -> dict[str, Any]:
        """What the page needs to show a comparison; nothing tells which model made a clip, or why it is asked."""
        row = self._by_id[assignment.comparison_id]
        shown = ("candidate_a", "candidate_b") if assignment.left == "a" else ("candidate_b", "candidate_a")
        left, right = (str(row[side]) for side in shown)
        condition = self._conditions.get(row["condition_id"], {})
        skeleton = condition.get("skeleton")

        def signed(kind: str, name: str) -> str:
            return signer.sign_path(f"{PREFIX}/{kind}/{name}")

        return {
            "comparison_id": assignment.comparison_id,
            "repeat": assignment.repeat,
            "left": assignment.left,
            "clips": {"left": signed("clips", left), "right": signed("clips", right)},
            "sounds": {"left": signed("sounds", left), "right": signed("sounds", right)},
            "skeleton": signed("skeletons", str(row["condition_id"])) if skeleton else None,
            "same_sound": self._sound_alike(*sorted((left, right))),
            "fps": self._fps[left],
            "face": self._face(str(row["condition_id"])),
            "synthetic": condition.get("truth") is not None,
        }

    def sides(self, comparison_id: str) -> tuple[str, str] | None:
        """The candidates a and b of a comparison, or None."""
        row = self._by_id.get(comparison_id)
        return (str(row["candidate_a"]), str(row["candidate_b"])) if row else None

    def clip(self, candidate_id: str) -> Path | None:
        """A file of the clip that browsers play, or None where there is no such candidate."""
        file = self._original(candidate_id)
        if file is None:
            return None
        try:
            return proxy_of(file, self.workspace.root / "proxies", candidate_id)
        except MediaError:
            return file  # the page says that it cannot be played

    def sound(self, candidate_id: str) -> bytes | None:
        """The clip's sound as a WAV file that begins with the first frame, or None where there is none.

        Browsers disagree on where the sound of a video file begins; a WAV file leaves no doubt.
        """
        samples = self._samples(candidate_id)
        if samples is None:
            return None
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(_SOUND_RATE)
            writer.writeframes(samples.astype("<i2").tobytes())
        return buffer.getvalue()

    def skeleton(self, condition_id: str) -> Path | None:
        """The skeleton video of a condition, or None."""
        path = self._conditions.get(condition_id, {}).get("skeleton")
        file = self.workspace.path(path) if path else None
        return file if file is not None and file.is_file() else None

    def _original(self, candidate_id: str) -> Path | None:
        path = self._clips.get(candidate_id)
        file = self.workspace.path(path) if path is not None else None
        return file if file is not None and file.is_file() else None

    def _samples(self, candidate_id: str, rate: int = _SOUND_RATE) -> np.ndarray | None:
        file = self._original(candidate_id)
        try:
            return None if file is None else read_audio(file, rate)
        except (NoSoundError, MediaError):
            return None

    def _sound_alike(self, one: str, other: str) -> bool:
        with self._comparing:
            return self._same_sound(one, other)

    def _compare_sounds(self, one: str, other: str) -> bool:
        """Whether both clips sound alike, whatever their encoders did to the last bit."""
        first, second = self._samples(one, SAMPLE_RATE), self._samples(other, SAMPLE_RATE)
        if first is None or second is None:
            return (first is None) == (second is None)
        if abs(len(first) - len(second)) > SAMPLE_RATE // 10:
            return False
        length = min(len(first), len(second))
        a, b = first[:length].astype(np.float64), second[:length].astype(np.float64)
        scale = np.sqrt(np.mean(a**2)) + np.sqrt(np.mean(b**2))
        return bool(scale == 0 or np.sqrt(np.mean((a - b) ** 2)) < 0.1 * scale)

    def _face(self, condition_id: str) -> list[float] | None:
        """Where the face is, as shares of width and height, from the driving keypoints; None if unknown."""
        condition = self._conditions.get(condition_id, {})
        path, skeleton = condition.get("keypoints"), condition.get("reference_image")
        if not path or not skeleton or not self.workspace.path(path).is_file():
            return None
        return _face_of(str(self.workspace.path(path)), str(self.workspace.path(skeleton)))


@functools.lru_cache(10_000)
def _face_of(keypoints: str, image: str) -> list[float] | None:
    from PIL import Image

    with Image.open(image) as opened:
        width, height = opened.size
    points = read_keypoints(keypoints, (height, width))[:, _FACE_KEYPOINTS]
    seen = points[points[..., 2] > 0]
    if not len(seen):
        return None
    return [float(np.median(seen[:, 0]) / width), float(np.median(seen[:, 1]) / height)]
