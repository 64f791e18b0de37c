"""Small SVG charts as text. Colours come from the page's style sheet, so they follow its light or dark theme."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 36
# With more points than this a line is drawn as its running mean, over the faint raw values.
SMOOTH_ABOVE = 40


def line_chart(series: Mapping[str, Points], *, reference: float | None = None, x_label: str = "step") -> Markup:
    """Lines over steps, one per name, each with its own colour class (line-0, line-1, …).

    Args:
        series: name -> (x, y) in order of x; values that are not finite are left out.
        reference: a y value to mark with a dashed line, e.g. chance.
        x_label: below the axis.
    """
    finite = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    xs = [x for points in finite.values() for x, _ in points]
    ys = [y for points in finite.values() for _, y in points] + ([] if reference is None else [reference])
    if not xs:
        return Markup('<p class="muted">no values</p>')
    x_ticks, y_ticks = ticks(min(xs), max(xs), 5), ticks(min(ys), max(ys), 4)
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    parts = []
    for tick in y_ticks:
        _, y = at(x_low, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{exact(tick)}</text>')
    for tick in (tick for tick in x_ticks if x_low <= tick <= x_high):
        x, _ = at(tick, y_low)
        parts.append(f'<text class="tick" x="{x}" y="{HEIGHT - 18}" text-anchor="middle">{exact(tick)}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
    if reference is not None:
        _, y = at(x_low, reference)
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
    for index, (name, points) in enumerate(finite.items()):
        parts.append(_line(name, points, index, at))
    return _svg(WIDTH, HEIGHT, parts, ", ".join(series))


def forest_plot(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Win rates with their intervals, one row per metric, 50 % marked.

    Args:
        rows: from `prefkit.evaluation.compare_models`; those without a win rate are left out.
    """
    rows = [row for row in rows if row["win_rate"] is not None]
    if not rows:
        return Markup('<p class="muted">no metric has a win rate</p>')
    width, left, right, line = 900, 190, 150, 34
    bottom = 12 + line * len(rows)

    def at(rate: float) -> float:
        return round(left + rate * (width - left - right), 1)

    parts = []
    for rate in (0, 0.25, 0.5, 0.75, 1):
        name = "reference" if rate == 0.5 else "grid"
        parts.append(f'<line class="{name}" x1="{at(rate)}" x2="{at(rate)}" y1="6" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{at(rate)}" y="{bottom + 18}" text-anchor="middle">{100 * rate:.0f} %</text>'
        )
    parts.append(f'<text class="tick" x="{at(0)}" y="{bottom + 36}">← base better</text>')
    parts.append(f'<text class="tick" x="{at(1)}" y="{bottom + 36}" text-anchor="end">tuned better →</text>')
    for index, row in enumerate(rows):
        y = 12 + line * (index + 0.5)
        rate, low, high = row["win_rate"], row["win_rate_low"], row["win_rate_high"]
        parts.append(f'<text class="name" x="{left - 18}" y="{y + 5}" text-anchor="end">{escape(row["metric"])}</text>')
        verdict = win_verdict(row)
        if low is not None:
            parts.append(f'<line class="interval {verdict}" x1="{at(low)}" x2="{at(high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="mean {verdict}" cx="{at(rate)}" cy="{y}" r="6"/>')
        interval = "" if low is None else f' <tspan class="tick">[{100 * low:.0f}, {100 * high:.0f}]</tspan>'
        parts.append(f'<text class="value" x="{at(1) + 22}" y="{y + 5}">{100 * rate:.0f} %{interval}</text>')
    return _svg(width, bottom + 42, parts, "win rates")


def win_verdict(row: Mapping[str, Any]) -> str:
    """Returns better or worse where the win rate's interval leaves out one half, else undecided."""
    if row["win_rate_low"] is None:
        return "undecided"
    if row["win_rate_low"] > 0.5:
        return "better"
    return "worse" if row["win_rate_high"] < 0.5 else "undecided"


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2, 5 × 10ⁿ apart) from at or below `low` to at or above `high`; at least two."""
    span = high - low or max(abs(low), 1.0)
    magnitude = 10 ** math.floor(math.log10(span / about))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude * about >= span)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float | None) -> str:
    """A measured number for people: three digits, – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return _typeset("0" if value == 0 else text)


def exact(value: float) -> str:
    """A count or an axis number as it is, without needless zeros."""
    return _typeset(f"{value:,}" if isinstance(value, int) else f"{value:,.10g}")


def _typeset(text: str) -> str:
    return text.replace(",", "\u202f").replace("-", "−")


def running_mean(points: Points, window: int) -> list[tuple[float, float]]:
    """Means of the last `window` values (fewer at the start), at the same x."""
    values = [y for _, y in points]
    means = []
    for index, (x, _) in enumerate(points):
        recent = values[max(0, index + 1 - window) : index + 1]
        means.append((x, sum(recent) / len(recent)))
    return means


def _line(name: str, points: Points, index: int, at: Any) -> str:
    parts = []
    if len(points) > SMOOTH_ABOVE:
        parts.append(f'<polyline class="raw line-{index}" points="{_path(points, at)}"/>')
        points = running_mean(points, max(2, len(points) // 20))
    parts.append(f'<polyline class="line line-{index}" points="{_path(points, at)}"/>')
    few = points if len(points) <= SMOOTH_ABOVE else points[-1:]
    for x, y in few:
        across, down = at(x, y)
        title = f"<title>{escape(name)}, step {exact(x)}: {number(y)}</title>"
        parts.append(f'<circle class="dot line-{index}" cx="{across}" cy="{down}" r="3">{title}</circle>')
    return "".join(parts)


def _path(points: Points, at: Any) -> str:
    return " ".join("{},{}".format(*at(x, y)) for x, y in points)


def _svg(width: int, height: int, parts: Sequence[str], label: str) -> Markup:
    body = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>')
