import numpy as np
import pytest

from prefkit.media import write_clip
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS
from prefkit.workspace import Workspace

FPS = 25
FRAMES = 50
PAIRS = 6


def talking_square(number):
    """A dark frame with a bright bar that moves, so that every frame differs and clips can be told apart."""
    frames = np.full((FRAMES, 64, 64, 3), (30 + 5 * number, 60, 90), np.uint8)
    for index, frame in enumerate(frames):
        frame[20:44, index : index + 12] = (230, 200, 160)
    return frames


def beep(hertz):
    time = np.arange(16_000 * FRAMES // FPS) / 16_000
    return (8000 * np.sin(2 * np.pi * hertz * time) * (np.sin(2 * np.pi * 4 * time) > 0)).astype(np.int16)


def make_workspace(folder, pairs, settings, frames=FRAMES):
    """Comparisons q0 … of clips c0a, c0b, … that sound different."""
    made = Workspace.create(folder)
    made.append(CONDITIONS, [{"condition_id": f"c{n}", "truth": "media/truth.npz"} for n in range(pairs)])
    candidates = []
    for n in range(pairs):
        for side in "ab":
            clip = f"clips/c{n}{side}.mp4"
            sound = beep(220 if side == "a" else 330)[: 16_000 * frames // FPS]
            write_clip(made.path(clip), talking_square(2 * n + (side == "b"))[:frames], FPS, sound)
            candidates.append({"candidate_id": f"c{n}{side}", "condition_id": f"c{n}", "clip": clip, "fps": FPS,
                               "num_frames": frames})  # fmt: skip
    made.append(CANDIDATES, candidates)
    made.append(
        COMPARISONS,
        [{"comparison_id": f"q{n}", "condition_id": f"c{n}", "candidate_a": f"c{n}a", "candidate_b": f"c{n}b",
          "purpose": "train", "target_votes": 100} for n in range(pairs)],
    )  # fmt: skip
    (made.root / "annotation.toml").write_text(settings)
    return made


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Six comparisons; the last clip cannot be played."""
    # Tests that vote do not wait for the clips' end; what the page asks of people is shown in tests of their own.
    quick = "watch_first = false\nsound_check = false\n"
    made = make_workspace(tmp_path_factory.mktemp("annotation") / "workspace", PAIRS, quick)
    made.path(f"clips/c{PAIRS - 1}b.mp4").write_bytes(b"this is no video")
    return made


@pytest.fixture(scope="module")
def strict_workspace(tmp_path_factory):
    """Twenty-one comparisons of half a second, asked as people are asked: sound check, watch first."""
    folder = tmp_path_factory.mktemp("strict") / "workspace"
    return make_workspace(folder, 21, 'completion_url = "https://crowd.example/done?who={annotator}"\n', frames=13)
