"""Answers: annotate, votes, label-studio."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as Grid

from prefkit.cli.options import Seed, WorkspacePath
from prefkit.cli.printing import console, print_summary
from prefkit.errors import PrefkitError


def annotate(
    workspace: WorkspacePath,
    port: Annotated[int, typer.Option(help="The port of the page.")] = 8501,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulated annotators vote instead of people.")] = False,
    annotators: Annotated[int, typer.Option(help="With --simulate: how many.")] = 5,
    error_rate: Annotated[float, typer.Option(help="With --simulate: how often they pick the worse clip.")] = 0.1,
    left_bias: Annotated[
        float, typer.Option(help="With --simulate: how often they pick the left clip blindly.")
    ] = 0.05,
    seed: Seed = 0,
) -> None:
    """Open the annotation page in the browser, or let simulated annotators vote."""
    if not simulate:
        from annotation_ui.server import serve

        serve(workspace, host=host, port=port, open_browser=True)
        return
    from prefkit.synthetic.judge import TIE_MARGIN, make_judge
    from prefkit.votes.simulated import simulate_votes
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    done = simulate_votes(
        opened, make_judge(opened), annotators=annotators, error_rate=error_rate, left_bias=left_bias,
        tie_margin=TIE_MARGIN, seed=seed,
    )  # fmt: skip
    print_summary("simulated votes", vars(done))


votes_app = typer.Typer(help="Look at the votes.", no_args_is_help=True, rich_markup_mode=None)


@votes_app.command("stats")
def votes_stats(workspace: WorkspacePath) -> None:
    """Count votes per annotator and criterion, with the share that went to the left clip."""
    from prefkit.votes.statistics import vote_statistics
    from prefkit.votes.store import VoteStore
    from prefkit.workspace import Workspace

    found = vote_statistics(VoteStore.in_workspace(Workspace.open(workspace), create=False).votes())
    if found.empty:
        raise PrefkitError(f"{workspace} has no votes yet; vote with 'prefkit annotate {workspace}'")
    grid = Grid(*found.columns, box=None, pad_edge=False)
    for row in found.itertuples(index=False):
        grid.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row))
    console.print(grid)


@votes_app.command("export")
def votes_export(
    workspace: WorkspacePath, output: Annotated[Path, typer.Argument(help="A .parquet or .csv file.")]
) -> None:
    """Write the votes that count to one file."""
    from prefkit.votes.export import export_votes
    from prefkit.workspace import Workspace

    count = export_votes(Workspace.open(workspace), output)
    console.print(f"{count} votes: {output}", highlight=False, soft_wrap=True)
