"""What commands print."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

console = Console()


def print_summary(title: str, summary: dict[str, Any]) -> None:
    """A line a count; where a count has reasons, one below for each."""
    for name, value in summary.items():
        lines = value.items() if isinstance(value, dict) else ()
        shown = f"{sum(value.values())}" if isinstance(value, dict) else value
        console.print(f"{title}: {name.replace('_', ' ')} {shown}", highlight=False, soft_wrap=True)
        for reason, count in lines:
            console.print(f"    {count} × {reason}", highlight=False, soft_wrap=True, markup=False)


def print_evaluation(workspace: Path, run: str) -> None:
    """The evaluation of a run as a table, a line a metric that has values; and below it the distances of sets."""
    found = json.loads((workspace / "reports" / f"evaluation-{run}.json").read_text())
    print_results([row for row in found["results"] if row["base_mean"] is not None])
    for row in found.get("sets", []):
        value = f"{row['value']:.4g}" if row["error"] is None else f"none: {row['error']}"
        console.print(f"{row['metric']} of {row['model']} to real clips, by {row['extractor']}: {value}", markup=False)


def print_results(results: Sequence[Mapping[str, Any]]) -> None:
    """Rows of `compare_models`, or of `human_win_rates`, which have no means."""
    grid = Grid(box=None, pad_edge=False)
    for heading in ("metric", "better", "base", "tuned", "win rate", "95 % interval", "not inferior"):
        grid.add_column(heading)
    for row in results:
        low, high = row["win_rate_low"], row["win_rate_high"]
        grid.add_row(
            row["metric"],
            row["direction"],
            _shown(row["base_mean"], ".3f"),
            _shown(row["tuned_mean"], ".3f"),
            _shown(row["win_rate"], ".0%"),
            "–" if low is None else f"{low:.0%} – {high:.0%}",
            {True: "yes", False: "not shown", None: "–"}[row["non_inferior"]],
        )
    console.print(grid)


def _shown(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)
