"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

WorkspacePath = Annotated[Path, typer.Argument(help="The workspace's folder.", metavar="WORKSPACE")]
Seed = Annotated[int, typer.Option(help="Everything random follows from this number.")]
Workers = Annotated[int, typer.Option(help="Processes that score clips.", min=1)]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weights", help="NAME=PATH of a network's weights, or NAME=hf://owner/repo/file; again for more."),
]
Split = Annotated[str | None, typer.Option(help="Only conditions of this split (train, test or evaluate).")]
Run = Annotated[str, typer.Option("--run", help="The run's name, a folder under runs/.")]
BackboneName = Annotated[
    str,
    typer.Option("--backbone", help="tiny, hallo4, unet, an installed package's, or package.module:Class."),
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="The backbone's weights, a folder or a file; docs/backbones.md says which.")
]
