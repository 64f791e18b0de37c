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
    """NAME=VALUE pairs of training options, values as YAML reads them."""
    import yaml

    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise PrefkitError(f"--set got {pair!r}; expected NAME=VALUE")
        found[name] = yaml.safe_load(value)
    return _training_options(found)


def options_file(path: Path | None) -> dict[str, Any]:
    """Training options of a YAML file; none where there is no file."""
    import yaml

    if path is None:
        return {}
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PrefkitError(f"{path} cannot be read as YAML ({error}); expected NAME: VALUE on each line") from None
    if not isinstance(found, dict):
        raise PrefkitError(f"{path} holds no mapping; expected NAME: VALUE on each line")
    return _training_options(found)


def _training_options(options: dict[str, Any]) -> dict[str, Any]:
    from trainers.config import DiffusionDPOConfig

    known = {field.name for field in dataclasses.fields(DiffusionDPOConfig)}
    for name in options:
        if name not in known:
            raise PrefkitError(f"the trainer has no option {name!r}{nearest_names(name, known)}")
    return {name: _number(value) for name, value in options.items()}


def _number(value: Any) -> Any:
    """YAML takes 1e-4 for text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def weighted_regions(pairs: list[str]) -> dict[str, float]:
    """NAME=WEIGHT each -> weights by region."""
    from trainers.weighting import REGIONS

    found = {}
    for pair in pairs:
        name, _, weight = pair.partition("=")
        if name not in REGIONS:
            raise PrefkitError(f"there is no region {name!r}{nearest_names(name, REGIONS)}")
        try:
            found[name] = float(weight)
        except ValueError:
            raise PrefkitError(f"--region got {pair!r}; expected NAME=WEIGHT, such as mouth=4") from None
        if not 0 <= found[name] < float("inf"):
            raise PrefkitError(f"--region got {pair!r}; expected a weight from 0")
    return found
