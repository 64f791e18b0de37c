"""The metrics themselves: what there is, and what each lacks on this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as Grid

from prefkit.cli.options import Weights
from prefkit.cli.parsing import named_paths
from prefkit.cli.printing import console, print_summary

metrics_app = typer.Typer(help="List the metrics, which way each is better, and what it lacks on this machine.")


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


@metrics_app.command()
def calibrate(
    output: Annotated[Path, typer.Argument(help="The HTML page to write.")] = Path("calibration.html"),
    portraits: Annotated[int, typer.Option(help="Drawn portraits a point.", min=1)] = 4,
) -> None:
    """Score drawn portraits with injected faults; writes a page of curves, exits with 1 if one has a wrong shape."""
    from prefkit.calibration.curves import calibrate as run
    from prefkit.calibration.report import write_calibration

    curves = run(portraits=portraits)
    path = write_calibration(curves, output, portraits=portraits)
    print_summary("calibration", {"curves": len(curves), "hold": sum(curve.holds for curve in curves)})
    console.print(f"Report: {path}", highlight=False, soft_wrap=True)
    if not all(curve.holds for curve in curves):
        raise typer.Exit(1)
