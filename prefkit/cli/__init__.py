"""The command line: one command per arrow of the loop, in flow order.

Heavy imports are inside the commands, so that `prefkit --help` is quick and an annotator's machine
needs no torch. A `PrefkitError` is printed as one sentence with exit code 2; a bug keeps its traceback.
"""

import logging
import os
import sys
from typing import Annotated

import typer
from rich.console import Console

import prefkit
from prefkit.cli import annotation, clips, metrics, pairs, tuning, voting
from prefkit.errors import PrefkitError

app = typer.Typer(
    help="Make portrait-animation models better by asking people: sample → score → compare → annotate → "
    "build-pairs → train-dpo → evaluate → report.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Runs the command line; a user's mistake ends with exit code 2."""
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


app.command("demo")(tuning.demo)
app.command("init")(clips.init)
app.command("add-conditions")(clips.add_conditions)
app.command("import")(clips.import_clips)
app.command("sample")(clips.sample)
app.command("score")(clips.score)
app.add_typer(metrics.metrics_app, name="metrics")
app.command("compare")(voting.compare)
app.command("annotate")(annotation.annotate)
annotation.votes_app.command("plan")(voting.votes_plan)
annotation.votes_app.command("aggregate")(voting.votes_aggregate)
app.add_typer(annotation.votes_app, name="votes")
app.add_typer(annotation.label_studio_app, name="label-studio")
app.command("build-pairs")(pairs.build_pairs)
app.command("publish")(pairs.publish)
app.command("train-dpo")(tuning.train_dpo)
app.command("evaluate")(tuning.evaluate)
app.command("round")(tuning.next_round)
app.command("report")(tuning.report)
