"""Finds what third parties add: by an entry point's name, or by "package.module:Object".

An installed package offers a backbone or a metric under an entry point of one of these groups.
"""

import importlib
from importlib.metadata import entry_points
from typing import Any

from prefkit.errors import PrefkitError, nearest_names

BACKBONES = "prefkit.backbones"
METRICS = "prefkit.metrics"


def plugin_names(group: str) -> list[str]:
    """The names that installed packages offer in a group."""
    return sorted(entry.name for entry in entry_points(group=group))


def load_plugin(group: str, name: str, *, own: tuple[str, ...] = ()) -> Any:
    """The object behind a name.

    Args:
        group: `BACKBONES` or `METRICS`.
        name: of an entry point of that group, or "package.module:Object".
        own: names that prefkit itself has, to be offered where a name is unknown.

    Raises:
        PrefkitError: nothing has this name, or it cannot be imported because a package is missing.
    """
    found = {entry.name: entry.value for entry in entry_points(group=group)}
    target = found.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        raise PrefkitError(
            f"neither prefkit nor an installed package offers the {group.rpartition('.')[2].removesuffix('s')} "
            f"{name!r}; install one that does, give it as package.module:Object"
            f"{nearest_names(name, {*found, *own})}"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise PrefkitError(
            f"{name!r} stands for {target}, which cannot be loaded ({error}); install or correct it"
        ) from None
