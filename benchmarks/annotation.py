"""Annotation: how fast the next pair plays, and whether fifty annotators at once lose a vote.

    python benchmarks/annotation.py page          (about 6 minutes; needs Chromium)
    python benchmarks/annotation.py crowd         (minutes; SQLite)
    python benchmarks/annotation.py crowd --url postgresql://user@host/empty-database

`page`: a browser votes by keyboard while 50 scripted annotators vote over HTTP at human pace, on the
same machine; measured from the key press to both clips of the next pair playing, and to the vote being
acknowledged. `crowd`: 50 annotators in threads over 2 servers' connections answer 5,000 comparisons as
fast as they can; counted are votes lost, double and too many.
Each adds its figures to benchmarks/results/annotation.json and writes annotation.md beside it anew;
`python benchmarks/annotation.py write` only does the latter.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import tempfile
import threading
import time
import urllib.request
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from annotation_ui.screenshot import browser_page, running_server
from prefkit.media import write_clip
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, CRITERIA
from prefkit.votes.queue import Queue
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace, atomic_write

RESULTS = Path(__file__).parent / "results" / "annotation.json"
ANNOTATORS = 50
SECONDS_A_PAIR = 12.0  # human pace: two clips of two seconds, watched twice, and three answers
FPS, FRAMES, SIDE = 25, 50, 512
_LIMITS = {
    "key press to next pair playing, ms": 100,
    "key press to vote acknowledged, ms": 300,
    "their vote acknowledged over HTTP, ms": 300,
}
_MISTAKES = ("lost", "not acknowledged, yet stored", "double", "comparisons with too many", "comparisons with too few")


def main() -> None:
    """Runs one of the benchmarks and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["page", "crowd", "write"])
    parser.add_argument("--pairs", type=int, default=40, help="page: pairs the browser votes on")
    parser.add_argument("--comparisons", type=int, default=5000)
    parser.add_argument("--votes", type=int, default=2, help="crowd: answers a comparison")
    parser.add_argument("--url", help="crowd: an empty database instead of SQLite")
    options = parser.parse_args()
    if options.what == "write":
        return _write(json.loads(RESULTS.read_text()))
    if options.what == "page":
        name, found = "page", page(options.pairs)
    else:
        kind = "sqlite" if options.url is None else options.url.partition(":")[0]
        name, found = f"crowd on {kind}", crowd(options.comparisons, options.votes, options.url)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[name] = found | {"commit": _commit(), "machine": f"{platform.machine()}, {_cores()} cores"}
    _write(known)
    print(json.dumps(known[name], indent=1))


def crowd(comparisons: int, votes: int, url: str | None) -> dict[str, Any]:
    """Fifty annotators answer everything; every acknowledged vote must be there, once."""
    asked = pd.DataFrame(
        {"comparison_id": [f"q{n:05d}" for n in range(comparisons)], "target_votes": votes, "purpose": "train"}
    )
    with tempfile.TemporaryDirectory() as folder:
        where = url or Path(folder) / "votes.sqlite"
        queues = [Queue(VoteStore.open(where), asked) for _ in range(2)]
        acknowledged: list[str] = []
        seconds: list[float] = []

        def annotator(number: int) -> None:
            queue, name = queues[number % 2], f"ann{number:02d}"
            while tasks := queue.lease(name, 2):
                rows = [
                    {"vote_id": uuid.uuid4().hex, "comparison_id": tasks[0].comparison_id, "annotator": name,
                     "criterion": criterion, "choice": "a", "left": tasks[0].left, "source": "human"}
                    for criterion in CRITERIA
                ]  # fmt: skip
                started = time.perf_counter()
                queue.answer(name, rows)
                seconds.append(time.perf_counter() - started)
                acknowledged.extend(row["vote_id"] for row in rows)

        started = time.perf_counter()
        with ThreadPoolExecutor(ANNOTATORS) as pool:
            list(pool.map(annotator, range(ANNOTATORS)))
        wall = time.perf_counter() - started
        stored = queues[0].store.votes()
        counts = Counter(zip(stored["comparison_id"], stored["criterion"], strict=True))
        for queue in queues:
            queue.store.close()
    return {
        "annotators": ANNOTATORS,
        "comparisons": comparisons,
        "votes a comparison": votes,
        "votes acknowledged": len(acknowledged),
        "lost": len(set(acknowledged) - set(stored["vote_id"])),
        "not acknowledged, yet stored": len(set(stored["vote_id"]) - set(acknowledged)),
        "double": int(stored.duplicated(["comparison_id", "criterion", "annotator"]).sum()),
        "comparisons with too many": sum(count > votes for count in counts.values()),
        "comparisons with too few": comparisons * len(CRITERIA) - sum(count == votes for count in counts.values()),
        "ballots a second": round(len(acknowledged) / len(CRITERIA) / wall, 1),
    }


def page(pairs: int) -> dict[str, Any]:
    """The browser's and the scripts' waiting times while all of them vote."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = _workspace(Path(folder) / "workspace", pairs + 60)
        stop = threading.Event()
        acknowledged: list[float] = []
        with running_server(workspace.root) as (url, _), ThreadPoolExecutor(ANNOTATORS) as pool:
            running = [pool.submit(_scripted, url, n, stop, acknowledged) for n in range(ANNOTATORS)]
            time.sleep(SECONDS_A_PAIR)  # until all are there
            try:
                playing, saved = _browse(url, pairs)
            finally:
                stop.set()
            for one in running:
                one.result()
    return {
        "scripted annotators": ANNOTATORS,
        "seconds a pair of theirs": SECONDS_A_PAIR,
        "their votes": len(acknowledged),
        "pairs": len(playing),
        "clips": f"{SIDE}x{SIDE}, {FRAMES} frames at {FPS} fps",
        "key press to next pair playing, ms": _spread(playing),
        "key press to vote acknowledged, ms": _spread(saved),
        "their vote acknowledged over HTTP, ms": _spread(acknowledged),
    }


def _browse(url: str, pairs: int) -> tuple[list[float], list[float]]:
    with browser_page() as opened:
        opened.set_default_timeout(120_000)
        opened.goto(f"{url}/?annotator=browser")
        seen = None
        for _ in range(pairs):
            root = opened.locator(f".pk[data-state=ready]:not([data-comparison='{seen}'])")
            root.wait_for()
            seen = root.get_attribute("data-comparison")
            opened.wait_for_timeout(3000)  # quicker than people, who watch two clips; long enough to preload
            for key in ("1", "2", "3", "Enter"):
                opened.keyboard.press(key)
        opened.wait_for_timeout(3000)
        marks = opened.evaluate("performance.getEntriesByType('mark').map((mark) => [mark.name, mark.startTime])")
    starts = [at for name, at in marks if name == "prefkit:save"]

    def after(name: str) -> list[float]:
        times = [at for mark, at in marks if mark == name]
        return [min(at for at in times if at > start) - start for start in starts if max(times) > start]

    return after("prefkit:playing"), after("prefkit:saved")


def _scripted(url: str, number: int, stop: threading.Event, acknowledged: list[float]) -> None:
    """One annotator: asks, watches for a while (and loads the clips, as a browser would), votes."""
    chance = random.Random(number)
    stop.wait(chance.uniform(0, SECONDS_A_PAIR))  # people do not come in the same second
    session = _post(f"{url}/prefkit/session", {"name": f"script-{number}"})["session"]
    headers = {"Authorization": f"Bearer {session}"}
    while not stop.is_set():
        with urllib.request.urlopen(urllib.request.Request(f"{url}/prefkit/task", headers=headers)) as answer:
            tasks = json.load(answer)["tasks"]
        if not tasks:
            return
        for side in ("left", "right"):
            with urllib.request.urlopen(url + tasks[-1]["clips"][side]) as clip:
                clip.read()
        stop.wait(chance.uniform(0.5, 1.5) * SECONDS_A_PAIR)
        ballot = {
            "comparison_id": tasks[0]["comparison_id"],
            "repeat": tasks[0]["repeat"],
            "left": tasks[0]["left"],
            "guidelines_version": "1",
            "votes": [{"vote_id": uuid.uuid4().hex, "criterion": name, "choice": "left"} for name in CRITERIA],
        }
        started = time.perf_counter()
        _post(f"{url}/prefkit/votes", ballot, headers)
        acknowledged.append(1000 * (time.perf_counter() - started))


def _post(url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | (headers or {})
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)


def _workspace(folder: Path, pairs: int) -> Workspace:
    """Pairs of moving patterns with sound; a few clips serve all of them."""
    made = Workspace.create(folder)
    made.append(CONDITIONS, [{"condition_id": "c"}])
    rng = np.random.default_rng(0)
    sound = rng.integers(-3000, 3000, 16_000 * FRAMES // FPS).astype(np.int16)
    for number in range(8):
        picture = np.kron(rng.integers(0, 255, (16, 16, 3)), np.ones((SIDE // 16, SIDE // 16, 1))).astype(np.uint8)
        frames = (np.roll(picture, 4 * shift, axis=1) for shift in range(FRAMES))
        write_clip(made.path(f"clips/{number}.mp4"), frames, FPS, sound, crf=20)
    rows = [
        {"candidate_id": f"{n:04d}{side}", "condition_id": "c", "clip": f"clips/{(2 * n + (side == 'b')) % 8}.mp4",
         "fps": FPS, "num_frames": FRAMES}
        for n in range(pairs) for side in "ab"
    ]  # fmt: skip
    made.append(CANDIDATES, rows)
    made.append(
        COMPARISONS,
        [{"comparison_id": f"q{n:04d}", "condition_id": "c", "candidate_a": f"{n:04d}a", "candidate_b": f"{n:04d}b",
          "purpose": "train", "target_votes": 1000} for n in range(pairs)],
    )  # fmt: skip
    (made.root / "annotation.toml").write_text("watch_first = false\nsound_check = false\n")
    return made


def _write(known: dict[str, Any]) -> None:
    with atomic_write(RESULTS) as temporary:
        temporary.write_text(json.dumps(known, indent=1) + "\n")
    with atomic_write(RESULTS.with_suffix(".md")) as temporary:
        temporary.write_text(_report(known))


def _report(known: dict[str, Any]) -> str:
    """The results as Markdown: what must hold, then all figures."""
    lines = [
        "# Annotation: how fast the page is, and that no vote is lost",
        "",
        "`python benchmarks/annotation.py`",
        "",
    ]
    lines += ["| must hold | found | passed |", "|---|---|---|"]
    for title, found, passed in _claims(known):
        lines.append(f"| {title} | {found} | {'yes' if passed else '**no**'} |")
    for name, section in known.items():
        lines += ["", f"## {name.capitalize()}", ""]
        for key, value in section.items():
            if isinstance(value, dict):
                value = ", ".join(f"{part} {figure}" for part, figure in value.items())
            lines.append(f"- {key}: {value}")
    return "\n".join(lines) + "\n"


def _claims(known: dict[str, Any]) -> list[tuple[str, Any, bool]]:
    claims: list[tuple[str, Any, bool]] = []
    if "page" in known:
        for key, most in _LIMITS.items():
            found = known["page"][key]["p95"]
            claims.append((f"{key}: p95 at most {most}", found, found <= most))
    for name, section in known.items():
        if name.startswith("crowd"):
            found = {key: section[key] for key in _MISTAKES}
            claims.append((f"{name}: {', '.join(_MISTAKES)}: none", sum(found.values()), not any(found.values())))
    return claims


def _spread(milliseconds: list[float]) -> dict[str, float]:
    return {name: round(float(np.percentile(milliseconds, at)), 1) for name, at in (("median", 50), ("p95", 95))}


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def _cores() -> int:
    return os.cpu_count() or 1


if __name__ == "__main__":
    main()
