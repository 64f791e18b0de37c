"""A real talking clip against damaged copies: import, then scores that see the damage."""

from pathlib import Path

import numpy as np
import pytest

from prefkit.comparisons import make_comparisons
from prefkit.importing.clips import import_clips
from prefkit.media import iter_frames, probe, read_audio, write_clip
from prefkit.metrics.catalogue import METRICS
from prefkit.pairs import build_pairs, load_pairs
from prefkit.scoring import score_candidates
from prefkit.tables import CANDIDATES, COMPARISONS, CRITERIA, SCORES
from prefkit.votes.queue import Queue
from prefkit.votes.store import VoteStore, utc_now
from prefkit.workspace import Workspace

MEDIA = Path(__file__).resolve().parents[2] / ".." / "shared" / "media"
TALKING = MEDIA / "talking_25fps.mp4"
NUM_FRAMES = 50
needs_media = pytest.mark.skipif(not TALKING.exists(), reason=f"needs the real clip {TALKING.name} in ../shared/media")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The first two seconds of the face and five damaged copies of them, imported and scored."""
    folder = tmp_path_factory.mktemp("real")
    # every fourth pixel of the part with the face: a talking head of 270 px
    frames = np.stack([f[420:1500:4, ::4] for (f, _), _ in zip(iter_frames(TALKING), range(NUM_FRAMES), strict=False)])
    audio = read_audio(TALKING)[: NUM_FRAMES * 640]
    frozen, black = frames.copy(), frames.copy()
    frozen[25:] = frozen[25]
    black[40:] = 0
    noise = np.random.default_rng(0).integers(-40, 41, frames.shape)
    noisy = np.clip(frames.astype(int) + noise, 0, 255).astype(np.uint8)
    muted = audio.copy()
    muted[16000:] = 0
    clips = {
        "original": (frames, audio),
        "late": (frames, np.concatenate([np.zeros(6400, np.int16), audio[:-6400]])),
        "frozen": (frozen, audio),
        "black": (black, audio),
        "noisy": (noisy, audio),
        "muted": (frames, muted),
    }
    for name, (images, sound) in clips.items():
        write_clip(folder / "clips" / "talking" / f"{name}.mp4", images, 25, sound)
    workspace = Workspace.create(folder / "ws")
    assert import_clips(workspace, folder / "clips")["candidates"] == len(clips)
    names = ["dynamic_degree", "flow_acceleration", "flicker", "freeze_ratio", "black_ratio", "silent_ratio"]
    summary = score_candidates(workspace, names)
    assert summary["not_scored"] == {} and summary["scored"] == len(clips) * len(names)

    return workspace


def names_of(workspace: Workspace) -> dict[str, str]:
    """Candidate -> the name of the file it was imported from."""
    names = ("original", "late", "frozen", "black", "noisy", "muted")
    return {
        row["candidate_id"]: next(name for name in names if f'"{name}.mp4"' in row["settings"])
        for row in workspace.rows(CANDIDATES)
    }


@pytest.fixture(scope="module")
def scores(workspace: Workspace) -> dict[str, dict[str, float]]:
    """Metric -> clip -> value."""
    names = names_of(workspace)
    found: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    for row in workspace.rows(SCORES):
        found[row["metric"]][names[row["candidate_id"]]] = row["value"]
    return found


@needs_media
def test_metrics_see_the_damage(scores: dict[str, dict[str, float]]) -> None:
    assert scores["freeze_ratio"]["original"] == 0
    assert scores["freeze_ratio"]["frozen"] == pytest.approx(24 / 49, abs=1 / 49)
    assert scores["black_ratio"]["original"] == 0 and scores["black_ratio"]["black"] == pytest.approx(0.2)
    assert scores["silent_ratio"]["late"] == pytest.approx(scores["silent_ratio"]["original"] + 0.2, abs=0.05)
    assert scores["silent_ratio"]["muted"] >= 0.5
    assert scores["flicker"]["noisy"] < scores["flicker"]["original"] - 0.03
    assert scores["flow_acceleration"]["noisy"] > 2 * scores["flow_acceleration"]["original"]
    assert scores["dynamic_degree"]["frozen"] < 0.75 * scores["dynamic_degree"]["original"]


@needs_media
def test_shifted_sound_changes_nothing_that_is_seen(scores: dict[str, dict[str, float]]) -> None:
    for name in ("dynamic_degree", "flow_acceleration", "flicker", "freeze_ratio", "black_ratio"):
        assert scores[name]["late"] == scores[name]["original"]


@needs_media
def test_the_real_clip_itself_is_encoded_for_browsers(tmp_path: Path) -> None:
    assert probe(TALKING).codec == "hevc"  # which Chromium without licensed codecs does not play
    assert read_audio(TALKING).shape[0] == pytest.approx(160000, abs=400)


@needs_media
def test_votes_on_real_clips_become_a_dataset_that_prefers_the_undamaged_one(workspace: Workspace) -> None:
    """Through the queue that the page uses: an annotator who always prefers the original."""
    names = names_of(workspace)
    make_comparisons(workspace, target_votes=1)
    store = VoteStore.in_workspace(workspace)
    queue = Queue(store, workspace.read(COMPARISONS))
    comparisons = {row["comparison_id"]: row for row in workspace.rows(COMPARISONS)}
    while assigned := queue.lease("ann"):
        (task,) = assigned
        row = comparisons[task.comparison_id]
        better = {names[row["candidate_a"]]: "a", names[row["candidate_b"]]: "b"}.get("original", "tie")
        answers = [
            {
                "vote_id": f"{task.comparison_id}-{criterion}",
                "comparison_id": task.comparison_id,
                "annotator": "ann",
                "criterion": criterion,
                "repeat": 0,
                "choice": better,
                "left": task.left,
                "source": "human",
                "created_at": utc_now(),
            }
            for criterion in CRITERIA
        ]
        queue.answer("ann", answers)
    summary = build_pairs(workspace, votes=store.votes(), criteria=["overall"])
    store.close()
    pairs = load_pairs(summary["path"])
    rows = [row for split in pairs.values() for row in split]
    assert len(rows) == 5  # the original against each damaged copy; ties are no pairs
    assert {names[row["chosen_id"]] for row in rows} == {"original"}
    assert {row["source"] for row in rows} == {"human"}
