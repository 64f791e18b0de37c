"""Small workspaces with real clips."""

import numpy as np
import pandas as pd
import pytest

from prefkit.media import write_clip, write_image, write_wav
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, VOTES, content_id
from prefkit.workspace import Workspace


def make_workspace(root, clips_per_condition=(2, 2, 2, 2)):
    """A condition and an identity each, with that many clips, and all comparisons of each condition."""
    workspace = Workspace.create(root)
    rng = np.random.default_rng(0)
    speech = (3000 * rng.standard_normal(3200)).astype(np.int16)
    write_wav(workspace.path("media/speech.wav"), speech)
    conditions, candidates, comparisons = [], [], []
    for number, count in enumerate(clips_per_condition):
        write_image(workspace.path(f"media/{number}.png"), np.full((16, 16, 3), 20 * number, np.uint8))
        conditions.append(
            {
                "condition_id": f"c{number}", "identity": f"person {number}", "reference_image": f"media/{number}.png",
                "audio": "media/speech.wav", "fps": 25.0, "num_frames": 5, "licence": "cc-by-4.0",
            }
        )  # fmt: skip
        names = [f"c{number}{'pqrstuvw'[index]}" for index in range(count)]
        for name in names:
            frames = rng.integers(0, 256, (5, 16, 16, 3), np.uint8)
            write_clip(workspace.path(f"clips/{name}.mp4"), frames, 25.0, speech)
            candidates.append(
                {
                    "candidate_id": name, "condition_id": f"c{number}", "generator": "tiny",
                    "sha256": f"hash of {name}", "clip": f"clips/{name}.mp4", "fps": 25.0, "num_frames": 5, "round": 0,
                }
            )  # fmt: skip
        comparisons += [
            {
                "comparison_id": content_id("comparison", first, second, "train"), "condition_id": f"c{number}",
                "candidate_a": first, "candidate_b": second, "purpose": "train", "round": 0, "target_votes": 3,
            }
            for index, first in enumerate(names)
            for second in names[index + 1 :]
        ]  # fmt: skip
    workspace.append(CONDITIONS, conditions)
    workspace.append(CANDIDATES, candidates)
    workspace.append(COMPARISONS, comparisons)
    return workspace


def cast(workspace, choices, criteria=("overall",), source="human", **columns):
    """Votes: `choices` gives (candidate_a, candidate_b, criterion) -> one choice per annotator; or one list for all."""
    rows = []
    for comparison in workspace.rows(COMPARISONS):
        for criterion in criteria:
            key = (comparison["candidate_a"], comparison["candidate_b"], criterion)
            given = choices if isinstance(choices, (list, tuple)) else choices.get(key, choices.get(key[:2], ()))
            rows += [
                {
                    "vote_id": f"{comparison['comparison_id']}-{criterion}-{index}",
                    "comparison_id": comparison["comparison_id"], "annotator": f"annotator {index}",
                    "criterion": criterion, "repeat": 0, "choice": choice, "left": "ab"[index % 2], "source": source,
                    "created_at": pd.Timestamp("2025-01-01", tz="UTC") + pd.Timedelta(seconds=index), **columns,
                }
                for index, choice in enumerate(given)
            ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=VOTES.schema.names)


@pytest.fixture(name="make_workspace", scope="session")
def _make_workspace():
    return make_workspace


@pytest.fixture(name="cast", scope="session")
def _cast():
    return cast


@pytest.fixture
def small(tmp_path):
    """Four conditions with two clips each."""
    return make_workspace(tmp_path / "w")
