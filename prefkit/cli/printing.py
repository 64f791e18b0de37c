"""What commands print."""

import json
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
    """The evaluation of a run as a table, a line a metric."""
    result = json.loads((workspace / "reports" / f"evaluation-{run}.json").read_text())
    grid = Grid(box=None, pad_edge=False)
    for heading in ("metric", "better", "base", "tuned", "win rate", "95 % interval", "not inferior"):
        grid.add_column(heading)
    for row in result["results"]:
        if row["base_mean"] is None:
            continue
        rate = "–" if row["win_rate"] is None else f"{row['win_rate']:.0%}"
        known = row["win_rate_low"] is not None
        interval = f"{row['win_rate_low']:.0%} – {row['win_rate_high']:.0%}" if known else "–"
        inferior = {True: "yes", False: "not shown", None: "–"}[row["non_inferior"]]
        grid.add_row(
            row["metric"],
            row["direction"],
            f"{row['base_mean']:.3f}",
            f"{row['tuned_mean']:.3f}",
            rate,
            interval,
            inferior,
        )
    console.print(grid)
