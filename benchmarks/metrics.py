"""How fast and how lean scoring is, as ratios measured side by side, one thread a process.

    python benchmarks/metrics.py [--part PART …]                  as published in results/; other parts stay
    python benchmarks/metrics.py --seconds 2 --clips 8 --minutes 0.5 --out /tmp/x    a quick look

1. network: SyncNet's towers against the window-by-window evaluation as published; equal to 1e-4.
2. clip: a 1080p clip from decoding to scores against the published sequence of steps (video to AVI, frames to
   JPEG, detection on every frame, crops encoded again, read back, windows), with OpenCV's cascade in place
   of the published detector on both sides.
3. workers: clips of four seconds scored by two processes against one, each from a fresh start.
4. memory: the largest resident size while a long clip is scored by every metric, against a short one.

Weights are random in the published format: they change no time. Part 2 needs a real talking clip (--clip FILE):
a detector finds no face in drawn portraits.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import torch
from scipy.signal import medfilt

from prefkit.media import probe, read_audio, stream_frames, write_clip
from prefkit.metrics.catalogue import METRICS, find_metrics
from prefkit.metrics.face_detectors import chosen_detector
from prefkit.metrics.face_tracks import link
from prefkit.metrics.metric import Measurement, ScoredClip
from prefkit.metrics.passes import measure
from prefkit.metrics.sync_distances import sync_distances
from prefkit.metrics.syncnet import SyncNet, load_syncnet, make_embedder, mfcc_columns, sync_scores
from prefkit.synthetic.portrait import make_portrait
from prefkit.workspace import atomic_write

RESULTS = Path(__file__).parent / "results"
TALKING = Path(__file__).resolve().parents[2] / "shared" / "media" / "talking_25fps.mp4"
CLAIMS = {"network": 2.0, "clip": 3.0, "workers": 1.7}
MEMORY = 1500  # MB


def main() -> None:
    options = arguments()
    if options.score_in_process:
        return print(json.dumps(memory_of(Path(options.score_in_process))))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    chosen = options.part or list(PARTS)
    out = Path(options.out or RESULTS)
    known = json.loads((out / "metrics.json").read_text()) if (out / "metrics.json").exists() else {}
    results: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            if part in chosen:
                load = round(os.getloadavg()[0], 1)
                results[part] = PARTS[part](Path(folder), options) | {"commit": commit(), "load_at_the_start": load}
                print(part, json.dumps(results[part]), flush=True)
            elif part in known:
                results[part] = known[part]
    with atomic_write(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    with atomic_write(out / "metrics.md") as temporary:
        temporary.write_text(as_markdown(results))
    sys.exit(0 if all(results[part]["holds"] for part in chosen) else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--seconds", type=float, default=10, help="of the clips of parts 1 and 2")
    parser.add_argument("--clips", type=int, default=200, help="of part 3")
    parser.add_argument("--minutes", type=float, default=10, help="of the long clip of part 4")
    parser.add_argument("--repeats", type=int, default=3, help="of parts 1 and 2; the fastest of each side counts")
    parser.add_argument("--clip", type=Path, default=TALKING, help="a real talking clip for part 2")
    parser.add_argument("--out", help="folder of the results")
    parser.add_argument("--score-in-process", help=argparse.SUPPRESS)
    return parser.parse_args()


def side_by_side(repeats: int, *sides: Callable[[], Any]) -> tuple[list[float], list[Any]]:
    """The fastest time of each side, in turns, so that a busy moment of the machine hits all of them."""
    times = [[float("inf")] for _ in sides]
    results: list[Any] = [None] * len(sides)
    for _ in range(repeats):
        for index, side in enumerate(sides):
            start = time.perf_counter()
            results[index] = side()
            times[index].append(time.perf_counter() - start)
    return [min(taken) for taken in times], results


# --- 1. the network -----------------------------------------------------------------------------------


def random_weights(folder: Path) -> Path:
    """A file in the published format."""
    path = folder / "syncnet_v2.model"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(SyncNet().state_dict(), path)
    return path


def window_by_window(model: SyncNet, frames: np.ndarray, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Batches of 20 windows, each window a copy of its five frames: float32 [n, 1024] of lips and sound.

    As published also in that gradients are not switched off.
    """
    video = torch.from_numpy(frames[..., ::-1].astype(np.float64).transpose(3, 0, 1, 2)[None].copy()).float()
    sound = torch.from_numpy(mfcc_columns(audio)[None, None]).float()
    windows = min(len(frames), len(audio) // 640) - 5
    lips, heard = [], []
    for first in range(0, windows, 20):
        batch = range(first, min(windows, first + 20))
        lips.append(model.forward_lip(torch.cat([video[:, :, index : index + 5] for index in batch])).data)
        pieces = [sound[..., 4 * index : 4 * index + 20] for index in batch]
        heard.append(model.forward_aud(torch.cat(pieces)).data)
    return torch.cat(lips).numpy(), torch.cat(heard).numpy()


def network(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    model = load_syncnet(random_weights(folder))
    embedder = make_embedder(model)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (round(25 * options.seconds), 224, 224, 3)).astype(np.uint8)
    audio = rng.integers(-8000, 8000, round(16000 * options.seconds)).astype(np.int16)
    times, (published, ours) = side_by_side(
        options.repeats, lambda: window_by_window(model, frames, audio), lambda: sync_scores(frames, audio, embedder)
    )
    off = [
        float(np.abs(found - wanted).max() / np.abs(wanted).max())
        for found, wanted in zip((ours.lip_embeddings, ours.audio_embeddings), published, strict=True)
    ]
    return ratio("network", *times) | {"relative_difference": max(off), "equal_to_1e-4": max(off) < 1e-4}


# --- 2. a whole clip ----------------------------------------------------------------------------------


def clip(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    if not options.clip.is_file():
        sys.exit(f"part 'clip' needs a real talking clip and there is no {options.clip}; name one with --clip")
    weights = random_weights(folder)
    source = folder / "clip.mp4"
    frames = (frame.rgb for frame in stream_frames(options.clip) if frame.seconds < options.seconds)
    write_clip(source, frames, 25, read_audio(options.clip)[: round(16000 * options.seconds)], crf=18)
    embedder_model = load_syncnet(weights)
    times, (published, ours) = side_by_side(
        options.repeats,
        lambda: published_steps(source, embedder_model, folder / "steps"),
        lambda: our_steps(source, weights),
    )
    about = probe(source)
    found = {"size": f"{about.width}x{about.height}", "sync_d_published_steps": published, "sync_d_prefkit": ours}
    return ratio("clip", *times) | found


def our_steps(source: Path, weights: Path) -> float:
    about = probe(source)
    scored = ScoredClip(about.fps, about.height, about.width, read_audio(source), {}, {"syncnet": weights})
    found = measure(scored, lambda: stream_frames(source), find_metrics(["sync_c", "sync_d", "sync_offset"]))["sync_d"]
    if not isinstance(found, Measurement):
        raise found
    return found.value


def published_steps(source: Path, model: SyncNet, folder: Path) -> float:
    """What syncnet_python's pipeline does, step by step, with ffmpeg's programs and files between them."""
    folder.mkdir(exist_ok=True)
    for old in folder.rglob("*.jpg"):
        old.unlink()
    avi, wav, track = folder / "video.avi", folder / "audio.wav", folder / "track.avi"
    ffmpeg("-i", source, "-qscale:v", "2", "-async", "1", "-r", "25", avi)
    ffmpeg("-i", avi, "-qscale:v", "2", "-threads", "1", "-f", "image2", folder / "%06d.jpg")
    ffmpeg("-i", avi, "-ac", "1", "-vn", "-acodec", "pcm_s16le", "-ar", "16000", wav)
    files = sorted(folder.glob("[0-9]*.jpg"))
    found = detect_everywhere(files)
    half = medfilt(np.max(found[:, 2:] - found[:, :2], axis=1) / 2, 13)
    x, y = (medfilt((found[:, side] + found[:, side + 2]) / 2, 13) for side in (0, 1))
    writer = cv2.VideoWriter(str(folder / "crops.avi"), cv2.VideoWriter_fourcc(*"XVID"), 25, (224, 224))
    for index, file in enumerate(files):
        size, reach = half[index], int(half[index] * 1.8)
        image = np.pad(cv2.imread(str(file)), ((reach, reach), (reach, reach), (0, 0)), constant_values=110)
        row, column = y[index] + reach, x[index] + reach
        face = image[int(row - size) : int(row + size * 1.8), int(column - size * 1.4) : int(column + size * 1.4)]
        writer.write(cv2.resize(face, (224, 224)))
    writer.release()
    ffmpeg("-i", folder / "crops.avi", "-i", wav, "-c:v", "copy", "-c:a", "copy", track)
    (folder / "crops").mkdir(exist_ok=True)
    ffmpeg("-i", track, "-threads", "1", "-f", "image2", folder / "crops" / "%06d.jpg")
    ffmpeg("-i", track, "-ac", "1", "-vn", "-acodec", "pcm_s16le", "-ar", "16000", folder / "track.wav")
    crops = np.stack([cv2.imread(str(file))[..., ::-1] for file in sorted((folder / "crops").glob("*.jpg"))])
    return sync_distances(*window_by_window(model, crops, read_audio(folder / "track.wav"))).sync_d


def detect_everywhere(files: list[Path]) -> np.ndarray:
    """The longest face over all frames, boxes interpolated: [T, 4]."""
    from prefkit.metrics.face_tracks import Sample

    detect, _ = chosen_detector({})
    samples = [Sample(i, detect(cv2.imread(str(file))[..., ::-1])[:, :4]) for i, file in enumerate(files)]
    face = max(link(samples), key=len)
    at, boxes = [frame for frame, _ in face], np.stack([box for _, box in face])
    return np.stack([np.interp(np.arange(len(files)), at, boxes[:, side]) for side in range(4)], axis=1)


def ffmpeg(*words: Any) -> None:
    command = ["ffmpeg", "-y", "-loglevel", "error", *map(str, words)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("part 'clip' runs the published steps with the ffmpeg program; install it")


# --- 3. workers ---------------------------------------------------------------------------------------

WORKSPACE = """
import sys
from prefkit.scoring import score_candidates
from prefkit.workspace import Workspace
print(score_candidates(Workspace.open(sys.argv[1]), workers=int(sys.argv[2]))["scored"])
"""


def workers(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    times, scored = {}, {}
    for count in (1, 2):
        root = workspace_of(folder / f"workers-{count}", options.clips)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", WORKSPACE, str(root), str(count)], capture_output=True, text=True, check=True
        )
        times[count], scored[count] = time.perf_counter() - start, int(done.stdout)
    return ratio("workers", times[1], times[2]) | {"clips": options.clips, "values": scored[1]}


def workspace_of(root: Path, clips: int) -> Path:
    """A workspace of drawn portraits of four seconds as candidates."""
    from prefkit.synthetic.conditions import add_portraits
    from prefkit.tables import CANDIDATES, CONDITIONS
    from prefkit.workspace import Workspace

    workspace = Workspace.create(root)
    add_portraits(workspace, {"train": 8})
    conditions = [row["condition_id"] for row in workspace.rows(CONDITIONS)]
    portraits = [make_portrait(23_000_000 + number, num_frames=100) for number in range(8)]
    rows = []
    for number in range(clips):
        portrait = portraits[number % 8]
        write_clip(workspace.path(f"clips/{number}.mp4"), portrait.frames, 25, portrait.audio)
        rows.append(
            {"candidate_id": str(number), "condition_id": conditions[number % 8], "clip": f"clips/{number}.mp4"}
        )
    workspace.append(CANDIDATES, rows)
    return root


# --- 4. memory ----------------------------------------------------------------------------------------


def memory(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The long clip and one of a tenth of it, each scored in a process of its own."""
    random_weights(folder)
    found = {}
    for name, minutes in (("short", options.minutes / 10), ("long", options.minutes)):
        frames = round(25 * 60 * minutes)
        rng = np.random.default_rng(0)
        portrait = make_portrait(23_000_000, num_frames=50)
        pictures = [cv2.resize(frame, (512, 512), interpolation=cv2.INTER_CUBIC) for frame in portrait.frames]
        audio = rng.integers(-3000, 3000, frames * 1920).astype(np.int16)
        path = folder / f"{name}.mp4"
        write_clip(path, (pictures[index % 50] for index in range(frames)), 25, audio, sample_rate=48000, crf=28)
        np.savez(path.with_suffix(".npz"), boxes=np.tile([150.0, 110, 360, 320], (frames, 1)))
        done = subprocess.run(
            [sys.executable, __file__, "--score-in-process", str(path)], capture_output=True, text=True, check=True
        )
        found[name] = {"minutes": minutes} | json.loads(done.stdout)
    return {**found, "claim_mb": MEMORY, "holds": found["long"]["peak_mb"] < MEMORY}


def memory_of(path: Path) -> dict[str, Any]:
    """Scores one clip by every metric that can run, SyncNet among them, and tells the process's largest size."""
    about = probe(path)
    with np.load(path.with_suffix(".npz")) as stored:
        supplied = {"boxes": stored["boxes"]}
    weights = {"syncnet": path.parent / "syncnet_v2.model"}
    start = time.perf_counter()
    scored = ScoredClip(about.fps, about.height, about.width, read_audio(path), {}, weights, supplied=supplied)
    found = measure(scored, lambda: stream_frames(path), list(METRICS.values()))
    values = [name for name, value in found.items() if isinstance(value, Measurement)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": round(peak), "seconds": round(time.perf_counter() - start, 1), "metrics": len(values)}


# --- results ------------------------------------------------------------------------------------------

PARTS = {"network": network, "clip": clip, "workers": workers, "memory": memory}


def ratio(part: str, before: float, after: float) -> dict[str, Any]:
    found = before / after
    return {
        "published_s" if part != "workers" else "one_worker_s": round(before, 2),
        "prefkit_s" if part != "workers" else "two_workers_s": round(after, 2),
        "ratio": round(found, 2),
        "claim": CLAIMS[part],
        "holds": found >= CLAIMS[part],
    }


def machine() -> dict[str, Any]:
    names = ("torch", "opencv-python-headless", "av", "numpy")
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in names},
    }


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def as_markdown(results: dict[str, Any]) -> str:
    lines = ["# Metrics: speed and memory", "", "Made by `python benchmarks/metrics.py`. One thread a process; the", ""]
    lines[2] += " fastest of the repeats on either side."
    what = {
        "network": "SyncNet's towers against window by window as published",
        "clip": "a 1080p clip, file to scores, against the published sequence of steps",
        "workers": "200 clips of four seconds by two workers against one, each from a fresh start",
    }
    lines += ["| what | before | prefkit | ratio | claim | holds | commit |", "|---|---|---|---|---|---|---|"]
    for part, words in what.items():
        if part in results:
            found = results[part]
            before, after = (value for name, value in found.items() if name.endswith("_s"))
            holds = "yes" if found["holds"] else "**no**"
            lines.append(
                f"| {words} | {before} s | {after} s | {found['ratio']}× | {found['claim']}× | {holds} "
                f"| {found['commit']} |"
            )
    if "network" in results:
        lines += ["", f"Embeddings differ by at most {results['network']['relative_difference']:.1e} of the largest."]
    if "memory" in results:
        short, long = results["memory"]["short"], results["memory"]["long"]
        lines += [
            "",
            f"Memory: {long['minutes']:g} minutes at 512² through {long['metrics']} metrics, SyncNet among them: "
            f"{long['peak_mb']} MB at most; {short['minutes']:g} minutes: {short['peak_mb']} MB "
            f"(claim: under {MEMORY} MB, {'holds' if results['memory']['holds'] else '**does not hold**'}).",
        ]
    about = results["machine"]
    lines += ["", f"Machine: {about['cores']} cores ({about['processor']}); "]
    lines[-1] += ", ".join(f"{name} {number}" for name, number in about["versions"].items()) + "."
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
