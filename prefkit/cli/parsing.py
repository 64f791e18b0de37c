"""NAME=VALUE options."""

import dataclasses
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError, nearest_names


def named_paths(pairs: list[str] | None) -> dict[str, Path]:
    """NAME=PATH each -> paths by name."""
    found = {}
    for pair in pairs or []:
        name, equals, path = pair.partition("=")
        if not equals:
            raise PrefkitError(f"--weights got {pair!r}; expected NAME=PATH")
        found[name] = Path(path)
    return found


def typed_options(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as the config's types, by the parser that the trainer's own options use."""
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
