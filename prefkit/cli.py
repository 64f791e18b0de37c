"""The command line: one command per arrow of the loop, in flow order.

Heavy imports are inside the commands, so that `prefkit --help` is quick and an annotator's machine
needs no torch. A `PrefkitError` is printed as one sentence with exit code 2; a bug keeps its traceback.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

import prefkit
from prefkit.errors import PrefkitError, nearest_names

app = typer.Typer(
    help="Make portrait-animation models better by asking people: sample → score → compare → annotate → "
    "build-pairs → train-dpo → evaluate → report.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()

WorkspacePath = Annotated[Path, typer.Argument(help="The workspace's folder.", metavar="WORKSPACE")]
Seed = Annotated[int, typer.Option(help="Everything random follows from this number.")]
Workers = Annotated[int, typer.Option(help="Processes that score clips.")]
Split = Annotated[str | None, typer.Option(help="Only conditions of this split (train, test or evaluate).")]
Run = Annotated[str, typer.Option("--run", help="The run's name, a folder under runs/.")]


def main() -> None:
    """Runs the command line; a user's mistake ends with exit code 2."""
    # nothing of the loop needs a hub; a library that asks one would only wait
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        app()
    except PrefkitError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Prints the version."""
    if version:
        typer.echo(f"prefkit {prefkit.__version__}")
        raise typer.Exit


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's workspace goes.")] = Path("demo"),
    seed: Seed = 0,
    workers: Workers = 2,
) -> None:
    """Run the whole loop on synthetic portraits with simulated annotators, and end with a report."""
    from prefkit.loop import DEMO, run_loop

    path = run_loop(folder, DEMO, seed=seed, workers=workers)
    _print_evaluation(folder, "dpo")
    console.print(f"Report: {path.resolve()}", highlight=False, soft_wrap=True)


@app.command()
def init(
    workspace: WorkspacePath,
    synthetic: Annotated[int, typer.Option(help="Add this many synthetic conditions of the train split.")] = 0,
    test: Annotated[int, typer.Option(help="Likewise of the test split: pairs held out of training.")] = 0,
    evaluate: Annotated[int, typer.Option(help="Likewise held out of annotation altogether.")] = 0,
    seed: Seed = 0,
) -> None:
    """Make a workspace, with synthetic conditions if asked."""
    from prefkit.workspace import Workspace

    made = Workspace.create(workspace)
    if synthetic or test or evaluate:
        from prefkit.synthetic.conditions import add_portraits

        counts = add_portraits(made, {"train": synthetic, "test": test, "evaluate": evaluate}, seed=seed)
        _print_summary("conditions", counts)
    console.print(f"Workspace: {workspace}", highlight=False, soft_wrap=True)


@app.command("import")
def import_command(
    workspace: WorkspacePath,
    source: Annotated[Path, typer.Argument(help="A folder of clips, or a manifest (CSV, JSONL or Parquet).")],
    fps: Annotated[float | None, typer.Option(help="Resample the clips to this frame rate.")] = None,
) -> None:
    """Take existing clips of any generator as candidates: all of them, or none if one cannot be used."""
    from prefkit.importing import import_clips
    from prefkit.workspace import Workspace

    _print_summary("import", import_clips(Workspace.open(workspace), source, fps=fps))


@app.command()
def sample(
    workspace: WorkspacePath,
    per_condition: Annotated[int, typer.Option(help="Clips a condition shall have.")] = 4,
    split: Split = None,
    run: Annotated[str | None, typer.Option("--run", help="Sample the model tuned by this run.")] = None,
    steps: Annotated[int | None, typer.Option(help="Inference steps; by default the model's own.")] = None,
    batch_size: Annotated[int, typer.Option(help="Clips generated at a time.")] = 8,
    seed: Seed = 0,
) -> None:
    """Generate candidates with the tiny model; does only what is missing."""
    from prefkit.backbones.contract import Backbone
    from prefkit.backbones.tiny import TinyBackbone
    from prefkit.sampling import sample_candidates
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    if run is None:
        backbone: Backbone = TinyBackbone.from_pretrained()
        adapter_hash = None
    else:
        from prefkit.loop import tuned_backbone

        backbone, adapter_hash = tuned_backbone(opened, run)
    summary = sample_candidates(
        opened, backbone, per_condition=per_condition, split=split, seed=seed,
        adapter_hash=adapter_hash, num_inference_steps=steps, batch_size=batch_size,
    )  # fmt: skip
    _print_summary("candidates", summary)


@app.command()
def score(
    workspace: WorkspacePath,
    metric: Annotated[list[str] | None, typer.Option(help="A metric's name; again for more. By default all.")] = None,
    weights: Annotated[list[str] | None, typer.Option(help="NAME=PATH of a network's weights; again for more.")] = None,
    workers: Workers = 1,
) -> None:
    """Score candidates with automatic metrics; what cannot be scored gets a reason."""
    from prefkit.scoring import score_candidates
    from prefkit.workspace import Workspace

    summary = score_candidates(Workspace.open(workspace), metric, weights=_named_paths(weights), workers=workers)
    _print_summary("scores", summary)


@app.command()
def metrics(
    weights: Annotated[list[str] | None, typer.Option(help="NAME=PATH of a network's weights; again for more.")] = None,
) -> None:
    """List the metrics, which way each is better, and what it lacks on this machine."""
    from prefkit.metrics.catalogue import describe_metrics

    grid = Grid(box=None, pad_edge=False)
    for heading in ("metric", "better", "unit", "what it is", "on this machine"):
        grid.add_column(heading, overflow="fold")
    for row in describe_metrics(_named_paths(weights)):
        grid.add_row(row["name"], row["direction"], row["unit"], row["description"], row["lacks"] or "ready")
    console.print(grid)


@app.command()
def compare(
    workspace: WorkspacePath,
    per_condition: Annotated[int | None, typer.Option(help="At most so many comparisons a condition.")] = None,
    votes: Annotated[int, typer.Option(help="How many votes each comparison wants.")] = 3,
    purpose: Annotated[str, typer.Option(help="train, gold or evaluate.")] = "train",
    strategy: Annotated[str, typer.Option(help="random, or metric-close: the closest scores first.")] = "random",
    metric: Annotated[str | None, typer.Option(help="The metric that metric-close looks at.")] = None,
    split: Split = None,
    seed: Seed = 0,
) -> None:
    """Choose which clips of a condition to ask about."""
    from prefkit.comparisons import make_comparisons
    from prefkit.workspace import Workspace

    summary = make_comparisons(
        Workspace.open(workspace), purpose=purpose, per_condition=per_condition, target_votes=votes,
        seed=seed, strategy=strategy, metric=metric, split=split,
    )  # fmt: skip
    _print_summary("comparisons", summary)


@app.command()
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
    _print_summary("simulated votes", vars(done))


votes_app = typer.Typer(help="Look at the votes.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(votes_app, name="votes")


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


@app.command("build-pairs")
def build_pairs_command(
    workspace: WorkspacePath,
    output: Annotated[
        Path | None, typer.Option(help="The dataset's folder; by default pairs/ in the workspace.")
    ] = None,
    criterion: Annotated[list[str] | None, typer.Option(help="A criterion; again for more. By default all.")] = None,
    min_votes: Annotated[int, typer.Option(help="Votes a comparison needs on a criterion.")] = 1,
    min_agreement: Annotated[float, typer.Option(help="Share of decided votes the majority needs, 0.5 to 1.")] = 0.5,
    test_fraction: Annotated[float, typer.Option(help="Held-out share where conditions name no splits.")] = 0.2,
    allow_mixed_sources: Annotated[
        bool, typer.Option("--allow-mixed-sources", help="Mix simulated and human votes.")
    ] = False,
) -> None:
    """Turn votes into a preference dataset that `datasets.load_dataset` opens, with its card."""
    from prefkit.pairs import build_pairs
    from prefkit.votes.store import VoteStore
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    summary = build_pairs(
        opened, output, votes=VoteStore.in_workspace(opened, create=False).votes(), criteria=criterion,
        min_votes=min_votes, min_agreement=min_agreement, test_fraction=test_fraction,
        allow_mixed_sources=allow_mixed_sources,
    )  # fmt: skip
    for step in summary["funnel"]:
        dropped = "".join(f"\n    −{count} {reason}" for reason, count in step["dropped"].items())
        console.print(f"{step['step']}: {step['total']}{dropped}\n    = {step['left']}", highlight=False)
    console.print(f"Dataset: {summary['path']}", highlight=False, soft_wrap=True)


@app.command("train-dpo")
def train_dpo_command(
    workspace: WorkspacePath,
    run: Run = "dpo",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    objective: Annotated[str, typer.Option(help="dpo, or sft: supervised fine-tuning on the chosen clips.")] = "dpo",
    option: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of any option of DiffusionDPOConfig.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Fine-tune the tiny model on the pairs with Diffusion-DPO; resumes where it was interrupted."""
    from prefkit.loop import TRAINING, tune
    from prefkit.workspace import Workspace

    options: dict[str, Any] = TRAINING | {"objective": objective} | _typed_options(option or [])
    if steps is not None:
        options["max_steps"] = steps
    record = tune(Workspace.open(workspace), run, options, seed=seed)
    console.print(f"Adapter {record['adapter_hash']}: {workspace}/runs/{run}/adapter", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    workspace: WorkspacePath,
    run: Run = "dpo",
    per_condition: Annotated[int, typer.Option(help="Clips of each model a condition gets.")] = 1,
    workers: Workers = 1,
    seed: Seed = 0,
) -> None:
    """Compare the tuned model with the base on held-out conditions with the same seeds."""
    from prefkit.loop import evaluate as evaluate_run
    from prefkit.workspace import Workspace

    evaluate_run(Workspace.open(workspace), run, per_condition=per_condition, seed=seed, workers=workers)
    _print_evaluation(workspace, run)


@app.command()
def report(
    workspace: WorkspacePath,
    output: Annotated[Path | None, typer.Option(help="The HTML file; by default reports/report.html.")] = None,
) -> None:
    """Write one HTML page with training curves, win rates and clips that play."""
    from prefkit.loop import report as write
    from prefkit.workspace import Workspace

    path = write(Workspace.open(workspace), output)
    console.print(f"Report: {path.resolve()}", highlight=False, soft_wrap=True)


def _print_summary(title: str, summary: dict[str, Any]) -> None:
    for name, value in summary.items():
        lines = value.items() if isinstance(value, dict) else ()
        shown = f"{sum(value.values())}" if isinstance(value, dict) else value
        console.print(f"{title}: {name.replace('_', ' ')} {shown}", highlight=False, soft_wrap=True)
        for reason, count in lines:
            console.print(f"    {count} × {reason}", highlight=False, soft_wrap=True, markup=False)


def _print_evaluation(workspace: Path, run: str) -> None:
    import json

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


def _named_paths(pairs: list[str] | None) -> dict[str, Path]:
    found = {}
    for pair in pairs or []:
        name, equals, path = pair.partition("=")
        if not equals:
            raise PrefkitError(f"--weights got {pair!r}; expected NAME=PATH")
        found[name] = Path(path)
    return found


def _typed_options(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as the config's types, by the parser that the trainer's own options use."""
    import dataclasses

    import yaml

    from trainers.config import DiffusionDPOConfig

    known = {field.name for field in dataclasses.fields(DiffusionDPOConfig)}
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise PrefkitError(f"--set got {pair!r}; expected NAME=VALUE")
        if name not in known:
            raise PrefkitError(f"the trainer has no option {name!r}{nearest_names(name, known)}")
        found[name] = yaml.safe_load(value)
    return found
