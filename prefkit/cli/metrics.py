"""The metrics themselves: what there is, and what each lacks on this machine."""

from typing import Annotated

import typer
from rich.table import Table as Grid

from prefkit.cli.parsing import named_paths
from prefkit.cli.printing import console

metrics_app = typer.Typer(help="List the metrics, which way each is better, and what it lacks on this machine.")

Weights = Annotated[
    list[str] | None, typer.Option("--weights", help="NAME=PATH of a network's weights; again for more.")
]


@metrics_app.callback(invoke_without_command=True)
def metrics(context: typer.Context, weights: Weights = None) -> None:
    """List the metrics, which way each is better, and what it lacks on this machine."""
    if context.invoked_subcommand is None:
        list_metrics(weights)


@metrics_app.command("list")
def list_metrics(weights: Weights = None) -> None:
    """The same list."""
    from prefkit.metrics.catalogue import describe_metrics
    from prefkit.metrics.weight_files import local_file

    grid = Grid(box=None, pad_edge=False)
    for heading in ("metric", "better", "unit", "what it is", "on this machine"):
        grid.add_column(heading, overflow="fold")
    named = {name: local_file(path) for name, path in named_paths(weights).items()}
    for row in describe_metrics(named):
        grid.add_row(row["name"], row["direction"], row["unit"], row["description"], row["lacks"] or "ready")
    console.print(grid)
