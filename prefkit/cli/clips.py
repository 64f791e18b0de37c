"""Conditions and clips: init, import, sample, score, metrics."""

from pathlib import Path
from typing import Annotated

import typer

from prefkit.cli.options import BackboneName, Checkpoint, Seed, Split, Weights, Workers, WorkspacePath
from prefkit.cli.parsing import named_paths
from prefkit.cli.printing import console, print_summary
from prefkit.errors import PrefkitError


def init(
    workspace: WorkspacePath,
    synthetic: Annotated[int, typer.Option(help="Add this many synthetic conditions of the train split.")] = 0,
    test: Annotated[int, typer.Option(help="Likewise of the test split: pairs held out of training.")] = 0,
    evaluate: Annotated[int, typer.Option(help="Likewise held out of annotation altogether.")] = 0,
    seed: Seed = 0,
) -> None:
    """Make a workspace, with synthetic conditions if asked."""
    from prefkit.workspace import Workspace

    splits = {"train": synthetic, "test": test, "evaluate": evaluate}
    if not any(splits.values()):
        Workspace.create(workspace)
    else:
        from prefkit.synthetic.conditions import add_portraits, check_portraits

        check_portraits(splits, seed=seed)
        print_summary("conditions", add_portraits(Workspace.create(workspace), splits, seed=seed))
    console.print(f"Workspace: {workspace}", highlight=False, soft_wrap=True)


def import_clips(
    workspace: WorkspacePath,
    source: Annotated[Path, typer.Argument(help="A folder of clips, a manifest, or a table of votes.")],
    format: Annotated[
        str, typer.Option(help="clips, or with their votes: videoalign, pick-a-pic, genai-bench, votes (plain table).")
    ] = "clips",
    fps: Annotated[float | None, typer.Option(help="Resample the clips to this frame rate (only clips).")] = None,
) -> None:
    """Take existing clips of any generator as candidates, with votes if there are: all, or none if one is unusable."""
    from prefkit.importing.clips import import_clips as clips
    from prefkit.importing.votes import import_votes
    from prefkit.workspace import Workspace

    if format != "clips":
        if fps is not None:
            raise PrefkitError("votes are about clips as they are; leave --fps out, or import clips alone")
        print_summary("import", import_votes(Workspace.open(workspace), source, format))
        return
    print_summary("import", clips(Workspace.open(workspace), source, fps=fps))


def add_conditions(
    workspace: WorkspacePath,
    source: Annotated[Path, typer.Argument(help="A folder of conditions, or a manifest (CSV, JSONL or Parquet).")],
    fps: Annotated[float, typer.Option(help="Frame rate that skeletons are resampled to: the model's.")] = 25.0,
    pose_model: Annotated[
        Path | None, typer.Option(help="A DWPose or RTMPose network (.onnx), where there are driving videos.")
    ] = None,
) -> None:
    """Add things to animate: portrait, speech, skeleton (or keypoints, or a driving video), and text."""
    from prefkit.importing.conditions import add_conditions as add
    from prefkit.workspace import Workspace

    print_summary("conditions", add(Workspace.open(workspace), source, fps=fps, pose_model=pose_model))


def sample(
    workspace: WorkspacePath,
    per_condition: Annotated[int, typer.Option(help="Clips a condition shall have.")] = 4,
    split: Split = None,
    run: Annotated[str | None, typer.Option("--run", help="Sample the model tuned by this run.")] = None,
    backbone: BackboneName = "tiny",
    checkpoint: Checkpoint = None,
    steps: Annotated[int | None, typer.Option(help="Inference steps; by default the model's own.")] = None,
    batch_size: Annotated[int, typer.Option(help="Clips generated at a time.")] = 8,
    seed: Seed = 0,
) -> None:
    """Generate candidates; does only what is missing. `accelerate launch -m prefkit.cli sample …` uses all GPUs."""
    from prefkit.backbones.catalogue import load_backbone
    from prefkit.processes import Processes
    from prefkit.sampling import sample_candidates
    from prefkit.workspace import Workspace

    opened, processes = Workspace.open(workspace), Processes.current()
    model = load_backbone(backbone, checkpoint, processes.device)
    adapter_hash = None
    if run is not None:
        from prefkit.loop.tuning import tuned_backbone

        model, adapter_hash = tuned_backbone(opened, run, model)
    summary = sample_candidates(
        opened, model, per_condition=per_condition, split=split, seed=seed,
        adapter_hash=adapter_hash, num_inference_steps=steps, batch_size=batch_size,
    )  # fmt: skip
    if processes.is_main:
        print_summary("candidates", summary)


def score(
    workspace: WorkspacePath,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric's name, or package.module:Object; again for more. By default all."),
    ] = None,
    weights: Weights = None,
    supplied: Annotated[
        Path | None,
        typer.Option(help="A folder with boxes, landmarks or keypoints of clips: <candidate_id>.npz or .parquet."),
    ] = None,
    workers: Workers = 1,
) -> None:
    """Score candidates with automatic metrics; what cannot be scored gets a reason. Exits with 1 if anything failed."""
    from prefkit.scoring import score_candidates
    from prefkit.workspace import Workspace

    summary = score_candidates(
        Workspace.open(workspace), metric, weights=named_paths(weights), supplied=supplied, workers=workers
    )
    print_summary("scores", summary)
    if summary["failed"]:
        raise typer.Exit(1)
