"""The report of a loop: one HTML file with its charts and clips inside, which opens from disk without a network."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from prefkit.errors import PrefkitError
from prefkit.reporting.charts import Points, exact, forest_plot, line_chart, number, win_verdict
from prefkit.workspace import atomic_write

# Clips inside one file: a page much larger than this opens slowly.
MAX_CLIP_BYTES = 40_000_000
MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4"}
# (title, note, dashed line, series -> the keys of the trainer's log that may hold it)
PANELS: tuple[tuple[str, str, float | None, dict[str, tuple[str, ...]]], ...] = (
    ("Loss", "", None, {"training": ("loss",), "held out": ("eval_loss",)}),
    (
        "Pairs ranked right",
        "Share of pairs on which tuning favours the chosen clip; dashed: chance.",
        0.5,
        {"training": ("rewards/accuracies",), "held out": ("eval_implicit_accuracy", "eval_rewards/accuracies")},
    ),
    (
        "Reward margin",
        "How much more tuning favours the chosen clip.",
        0.0,
        {"training": ("rewards/margins",), "held out": ("eval_rewards/margins",)},
    ),
    (
        "Denoising error",
        "Of the tuned model; it should not rise on the chosen clips.",
        None,
        {"chosen": ("errors/chosen",), "rejected": ("errors/rejected",)},
    ),
)


@dataclass(frozen=True)
class Stage:
    """One step of the loop: what it is called, how many of what it made, and a remark in small print."""

    name: str
    count: int
    unit: str
    remark: str = ""


@dataclass(frozen=True)
class Evaluation:
    """One model against the base.

    Attributes:
        title: e.g. "Diffusion-DPO against the base".
        results: rows of `prefkit.evaluation.compare_models`.
        primary: the metric whose win rate is the headline; None for no headline.
        remark: what was compared: conditions, seeds, who judges.
        sets: distances of both models' clips to real ones: model and the fields of
            `prefkit.metrics.set_level.SetScore`.
    """

    title: str
    results: Sequence[Mapping[str, Any]]
    primary: str | None = None
    remark: str = ""
    sets: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class ClipRow:
    """Clips of one condition that play in step.

    Attributes:
        title: e.g. the condition and the seed.
        clips: label -> mp4, in the order shown; each with the same speech.
        remark: e.g. scores of both.
    """

    title: str
    clips: Mapping[str, Path]
    remark: str = ""


@dataclass(frozen=True)
class ReportData:
    """What a report shows. A part that is empty is left out of the page.

    Attributes:
        title: of the page.
        stages: the loop in flow order.
        funnel: steps as `prefkit.pairs.build_pairs` returns them: step, total, dropped, left.
        evaluations: the first one is the main result.
        metrics: metric -> one line on what it measures.
        training: the trainer's `log_history`: dicts with "step" and any of the keys in `PANELS`.
        clips: rows to watch.
        rounds: of sampling and asking: round, model, clips, comparisons, votes, means (metric -> mean).
        provenance: heading -> name -> value: versions, seeds, hashes, commands.
        num_votes: votes behind the pairs.
        num_simulated: how many of them are simulated.
        synthetic_portraits: whether the portraits are drawn by a program.
        confidence: of the intervals.
    """

    title: str
    stages: Sequence[Stage] = ()
    funnel: Sequence[Mapping[str, Any]] = ()
    evaluations: Sequence[Evaluation] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    clips: Sequence[ClipRow] = ()
    rounds: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    num_votes: int = 0
    num_simulated: int = 0
    synthetic_portraits: bool = False
    confidence: float = 0.95


def write_report(path: str | Path, data: ReportData) -> dict[str, Any]:
    """Writes the page, whole or not at all.

    Clips are put inside until `MAX_CLIP_BYTES` is reached; the page says how many were left out.

    Returns:
        path, bytes, clips_shown, clips_left_out (rows).

    Raises:
        PrefkitError: a clip is missing, or of a kind browsers do not play.
    """
    path = Path(path)
    shown, left_out = _embed(data.clips)
    page = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            data=data,
            version=version("prefkit"),
            banners=banners(data),
            headline=headline(data),
            panels=training_panels(data.training),
            evaluations=[
                {"data": evaluation, "forest": forest_plot(evaluation.results)} for evaluation in data.evaluations
            ],
            clips=shown,
            clips_left_out=left_out,
        )
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return {"path": str(path), "bytes": path.stat().st_size, "clips_shown": len(shown), "clips_left_out": left_out}


def banners(data: ReportData) -> list[str]:
    """What a reader must know before any number."""
    found = []
    if data.num_simulated:
        who = "All votes" if data.num_simulated == data.num_votes else f"{data.num_simulated} of {data.num_votes} votes"
        found.append(f"{who} behind this model are simulated: programs voted, not people.")
    if data.synthetic_portraits:
        found.append("The portraits and their speech are synthetic: drawn and spoken by a program.")
    return found


def headline(data: ReportData) -> dict[str, Any] | None:
    """The main result in a sentence, with its verdict: better, worse or undecided."""
    if not data.evaluations or data.evaluations[0].primary is None:
        return None
    main = data.evaluations[0]
    row = next((row for row in main.results if row["metric"] == main.primary), None)
    if row is None or row["win_rate"] is None:
        return None
    verdict = win_verdict(row)
    words = {
        "better": "The tuned model is better.",
        "worse": "The tuned model is worse.",
        "undecided": "No difference could be shown.",
    }
    interval = "no interval: " + str(row["reason"])
    if row["win_rate_low"] is not None:
        interval = (
            f"{100 * data.confidence:.0f} % interval {100 * row['win_rate_low']:.0f}–{100 * row['win_rate_high']:.0f} %"
        )
    return {
        "verdict": verdict,
        "rate": f"{100 * row['win_rate']:.0f} %",
        "words": words[verdict],
        "detail": f"of held-out comparisons won by {main.primary}, ties counted half ({interval}; "
        f"{row['num_conditions']} conditions, {row['num_pairs']} pairs of clips).",
    }


def training_panels(log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Charts of the curves that the log holds, in the order of `PANELS`."""
    panels = []
    for title, note, reference, names in PANELS:
        series = {name: _curve(log, keys) for name, keys in names.items()}
        series = {name: points for name, points in series.items() if points}
        if series:
            chart = line_chart(series, reference=reference)
            panels.append({"title": title, "note": note, "names": list(series), "chart": chart})
    return panels


def _curve(log: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Points:
    for key in keys:
        points = [(float(row["step"]), float(row[key])) for row in log if row.get(key) is not None]
        if points:
            return points
    return []


def _embed(rows: Sequence[ClipRow]) -> tuple[list[dict[str, Any]], int]:
    shown: list[dict[str, Any]] = []
    total = 0
    for row in rows:
        for clip in row.clips.values():
            if not clip.is_file():
                raise PrefkitError(f"the report shows {clip}, which does not exist; sample or import it again")
            if clip.suffix.lower() not in MEDIA_TYPES:
                raise PrefkitError(f"{clip} is no video that browsers play; expected {', '.join(MEDIA_TYPES)}")
        total += sum(clip.stat().st_size for clip in row.clips.values())
        if total > MAX_CLIP_BYTES:
            break
        clips = [{"label": label, "source": _data_uri(clip)} for label, clip in row.clips.items()]
        shown.append({"title": row.title, "remark": row.remark, "clips": clips})
    return shown, len(rows) - len(shown)


def _data_uri(path: Path) -> str:
    return f"data:{MEDIA_TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("prefkit.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["exact"] = exact
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.0f} %"
    environment.filters["text"] = lambda value: (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )
    environment.globals["verdict"] = win_verdict
    environment.globals["inline"] = lambda name: Markup(environment.loader.get_source(environment, name)[0])  # type: ignore[union-attr]
    return environment
