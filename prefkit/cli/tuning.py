"""From pairs to a tuned model: train-dpo, evaluate, report; and demo, all of it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prefkit.cli.options import BackboneName, Checkpoint, Run, Seed, Weights, Workers, WorkspacePath
from prefkit.cli.parsing import named_paths, options_file, typed_options, weighted_regions
from prefkit.cli.printing import console, print_evaluation, print_results, print_summary


def train_dpo(
    target: Annotated[
        Path, typer.Argument(metavar="WORKSPACE|CONFIG.yaml", help="A workspace, or a file that describes the run.")
    ],
    run: Run = "dpo",
    backbone: BackboneName = "tiny",
    checkpoint: Checkpoint = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    objective: Annotated[str, typer.Option(help="dpo, or sft: supervised fine-tuning on the chosen clips.")] = "dpo",
    config: Annotated[Path | None, typer.Option(help="For a workspace: a YAML file of training options.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of any training option; 'python -m trainers --help' lists them all."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", help="For a workspace: NAME=WEIGHT of errors at the mouth, face or hands."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="For a workspace: a finished run to go on from; --set reference=copy moves the reference."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Fine-tune a model on the pairs with Diffusion-DPO; resumes where it was interrupted.

    A file says what is trained on what and runs under 'accelerate launch -m trainers CONFIG.yaml' as well;
    a workspace's pairs tune --backbone.
    """
    given = typed_options(option or []) | ({} if steps is None else {"max_steps": steps})
    if target.suffix in (".yaml", ".yml"):
        record = _train_from_file(target, given)
        console.print(f"Adapter {record['adapter_hash']}", highlight=False, soft_wrap=True)
        return
    from prefkit.backbones.catalogue import load_backbone
    from prefkit.loop.sizes import TRAINING
    from prefkit.loop.tuning import tune
    from prefkit.workspace import Workspace

    options: dict[str, Any] = TRAINING | {"objective": objective} | options_file(config) | given
    workspace, regions = Workspace.open(target), weighted_regions(region or [])
    model = load_backbone(backbone, checkpoint)
    record = tune(workspace, run, options, seed=seed, regions=regions, backbone=model, start=start)
    console.print(f"Adapter {record['adapter_hash']}: {target}/runs/{run}/adapter", highlight=False, soft_wrap=True)


def _train_from_file(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    from trainers.__main__ import run
    from trainers.arguments import as_arguments

    return run([str(path), *as_arguments(options)])


def evaluate(
    workspace: WorkspacePath,
    run: Run = "dpo",
    backbone: BackboneName = "tiny",
    checkpoint: Checkpoint = None,
    per_condition: Annotated[int, typer.Option(help="Clips of each model a condition gets.", min=1)] = 1,
    human: Annotated[bool, typer.Option("--human", help="Ask people: open blind comparisons, count votes.")] = False,
    votes: Annotated[int, typer.Option(help="With --human: votes each comparison wants.", min=1)] = 3,
    weights: Weights = None,
    real: Annotated[
        Path | None, typer.Option(help="A folder of real clips: both models' Fréchet distances to them as sets.")
    ] = None,
    workers: Workers = 1,
    seed: Seed = 0,
) -> None:
    """Compare the tuned model with the base on held-out conditions with the same seeds."""
    from prefkit.backbones.catalogue import load_backbone
    from prefkit.loop.evaluating import evaluate as evaluate_run
    from prefkit.loop.people import evaluate_by_people
    from prefkit.processes import Processes
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    options: dict[str, Any] = {
        "backbone": load_backbone(backbone, checkpoint, Processes.current().device),
        "per_condition": per_condition,
        "seed": seed,
    }
    if not human:
        evaluate_run(opened, run, workers=workers, weights=named_paths(weights), real=real, **options)
        print_evaluation(workspace, run)
        return
    found = evaluate_by_people(opened, run, target_votes=votes, **options)
    console.print(f"{found['comparisons']} blind comparisons of {run} and the base", highlight=False)
    if found["results"]:
        print_results(found["results"])
    else:
        console.print(f"No votes yet: vote with 'prefkit annotate {workspace}', then run this again", highlight=False)


def next_round(
    workspace: WorkspacePath,
    run: Run = "dpo",
    backbone: BackboneName = "tiny",
    checkpoint: Checkpoint = None,
    per_condition: Annotated[int, typer.Option(help="Clips a condition gets.", min=1)] = 4,
    comparisons: Annotated[int, typer.Option(help="At most so many comparisons a condition.", min=1)] = 3,
    votes: Annotated[int, typer.Option(help="How many votes each comparison wants.", min=1)] = 3,
    strategy: Annotated[str, typer.Option(help="How comparisons are chosen; see 'prefkit compare'.")] = "random",
    workers: Workers = 1,
    seed: Seed = 0,
) -> None:
    """Sample the next round's candidates with the tuned model, score them and open their comparisons."""
    from prefkit.backbones.catalogue import load_backbone
    from prefkit.loop.rounds import open_round
    from prefkit.processes import Processes
    from prefkit.workspace import Workspace

    model = load_backbone(backbone, checkpoint, Processes.current().device)
    opened = open_round(
        Workspace.open(workspace), run, backbone=model, per_condition=per_condition, comparisons=comparisons,
        target_votes=votes, strategy=strategy, seed=seed, workers=workers,
    )  # fmt: skip
    print_summary(f"round {opened.pop('round')}", opened)
    console.print(f"Now: prefkit annotate {workspace}", highlight=False, soft_wrap=True)


def report(
    workspace: WorkspacePath,
    output: Annotated[Path | None, typer.Option(help="The HTML file; by default reports/report.html.")] = None,
) -> None:
    """Write one HTML page with training curves, win rates and clips that play."""
    from prefkit.loop.reporting import report as write
    from prefkit.workspace import Workspace

    path = write(Workspace.open(workspace), output)
    console.print(f"Report: {path.resolve()}", highlight=False, soft_wrap=True)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's workspace goes.")] = Path("demo"),
    seed: Seed = 0,
    workers: Workers = 2,
) -> None:
    """Run the whole loop on synthetic portraits with simulated annotators, and end with a report."""
    from prefkit.loop.demo import run_loop
    from prefkit.loop.sizes import DEMO

    path = run_loop(folder, DEMO, seed=seed, workers=workers)
    print_evaluation(folder, "dpo")
    console.print(f"Report: {path.resolve()}", highlight=False, soft_wrap=True)
