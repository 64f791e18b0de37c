"""A run described in YAML and on the command line, by TRL's parser: ``config.yaml --beta 300``.

The file holds the fields of `RunArguments` and `DiffusionDPOConfig` side by side; what the command line
says counts more.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from prefkit.errors import PrefkitError, nearest_names
from trainers.config import DiffusionDPOConfig


@dataclass
class RunArguments:
    """What is trained on what; the options of training are `DiffusionDPOConfig`'s."""

    dataset: str = field(metadata={"help": "The preference dataset's folder (prefkit build-pairs)."})
    backbone: str = field(
        default="tiny",
        metadata={"help": "tiny, hallo4, unet, an installed package's, or package.module:Class."},
    )
    checkpoint: str | None = field(default=None, metadata={"help": "The backbone's weights, a folder or a file."})
    cache_folder: str | None = field(
        default=None,
        metadata={"help": "Where encoded clips and the reference's numbers are kept; by default in output_dir."},
    )
    start_over: bool = field(default=False, metadata={"help": "Leave an earlier run in output_dir behind."})


class _Parser(TrlParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        raise PrefkitError(f"the options cannot be read: {message}; 'python -m trainers --help' lists them all")


def parse_run(arguments: Sequence[str]) -> tuple[RunArguments, DiffusionDPOConfig]:
    """Reads ``[config.yaml] --option value …``.

    Raises:
        PrefkitError: the file cannot be read, an option is unknown, or a value does not fit it.
    """
    arguments = list(arguments)
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--config", *arguments]
    if "--config" in arguments[:-1]:
        _check_file(Path(arguments[arguments.index("--config") + 1]))
    kinds: Any = (RunArguments, DiffusionDPOConfig)
    parser = _Parser(kinds, prog="python -m trainers", description=__doc__)
    run, config, unknown = parser.parse_args_and_config(arguments, return_remaining_strings=True)
    if unknown:
        name = unknown[0].lstrip("-")
        raise PrefkitError(f"training has no option {name!r}{nearest_names(name, _names())}")
    return run, config


def as_arguments(options: dict[str, Any]) -> list[str]:
    """NAME: value -> ``--name value …`` as `parse_run` reads them; lists become several values."""
    found: list[str] = []
    for name, value in options.items():
        found += [f"--{name}", *(str(one) for one in (value if isinstance(value, list) else [value]))]
    return found


def _names() -> set[str]:
    return {one.name for kind in (RunArguments, DiffusionDPOConfig) for one in dataclasses.fields(kind)}


def _check_file(path: Path) -> None:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PrefkitError(f"{path} cannot be read as YAML ({error}); expected NAME: value on each line") from None
    if not isinstance(found, dict):
        raise PrefkitError(f"{path} holds no mapping; expected NAME: value on each line")
    unknown = sorted(set(found) - _names() - {"env"})
    if unknown:
        raise PrefkitError(f"{path} has the option {unknown[0]!r}, which is none{nearest_names(unknown[0], _names())}")
