"""All metrics by name: prefkit's own, and those that installed packages offer."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError, nearest_names
from prefkit.metrics import expression, faces, following, identity, lipsync, motion, stillness
from prefkit.metrics.metric import Metric, Weights
from prefkit.metrics.weight_files import weights_hash
from prefkit.plugins import METRICS as GROUP
from prefkit.plugins import load_plugin, plugin_names

# A family imports its heavy packages (torch, OpenCV) where it scores, so that this list needs none of them.
FAMILIES = (lipsync, expression, motion, stillness, faces, following, identity)
METRICS: dict[str, Metric] = {metric.name: metric for family in FAMILIES for metric in family.METRICS}


def known_metrics() -> dict[str, Metric]:
    """All there are: prefkit's own metrics and those of installed packages, by name.

    Raises:
        PrefkitError: a package offers something that is no metric, or one whose name is taken.
    """
    known = dict(METRICS)
    for entry, metrics in _offered().items():
        for metric in metrics:
            if metric.name in known:
                raise PrefkitError(
                    f"two packages offer a metric called {metric.name!r}, one of them under the entry point "
                    f"{entry!r}; uninstall one"
                )
            known[metric.name] = metric
    return known


@functools.cache
def _offered() -> dict[str, list[Metric]]:
    # once a process: looking through all installed packages takes as long as scoring a small clip
    return {entry: _loaded(entry) for entry in plugin_names(GROUP)}


def find_metrics(names: Iterable[str] | None = None) -> list[Metric]:
    """The metrics of these names, each once; all of them for None.

    A name may also be "package.module:Object", a `Metric` or a list of them.

    Raises:
        PrefkitError: there is no metric of a name, or no name at all.
    """
    known = known_metrics()
    if names is None:
        return list(known.values())
    wanted = list(dict.fromkeys(names))
    found: dict[str, Metric] = {}
    for name in wanted:
        if ":" in name:
            found |= {metric.name: metric for metric in _loaded(name)}
        elif name in known:
            found[name] = known[name]
        else:
            raise PrefkitError(f"there is no metric {name!r}{nearest_names(name, known)}")
    if not wanted:
        raise PrefkitError("no metric is named; name one that 'prefkit metrics' lists, or leave the option out for all")
    return list(found.values())


def _loaded(name: str) -> list[Metric]:
    loaded = load_plugin(GROUP, name, own=tuple(METRICS))
    metrics = [loaded] if isinstance(loaded, Metric) else loaded
    if not isinstance(metrics, list | tuple) or not all(isinstance(metric, Metric) for metric in metrics):
        raise PrefkitError(
            f"{name!r} stands for {type(loaded).__name__}; expected a prefkit.metrics.metric.Metric or a list of them"
        )
    return list(metrics)


def check_weights(weights: Weights, metrics: Iterable[Metric]) -> None:
    """Checks the weight files a user named.

    Raises:
        PrefkitError: no metric reads weights of a name, or there is no such file.
    """
    known = {name for metric in metrics for name in metric.weights}
    for name, path in weights.items():
        if name not in known:
            raise PrefkitError(f"no metric reads weights called {name!r}{nearest_names(name, known or {'none'})}")
        if not path.exists():
            raise PrefkitError(f"there is no file {path}; expected the weights of {name}")


def row_version(metric: Metric, weights: Weights, supplied: Path | None = None) -> str:
    """The version in this metric's rows.

    Its own and, where the user names weights that it may read or supplies a file about the clip, the start
    of the file's SHA-256 for each.
    """
    files = [weights[name] for name in metric.weights if name in weights]
    files += [supplied] if supplied is not None and metric.supplies else []
    return "+".join([metric.version, *(weights_hash(file)[:8] for file in files)])


def describe_metrics(weights: Weights | None = None) -> list[dict[str, Any]]:
    """One row per metric for people to read: what it is, and what it lacks on this machine (None: it can run).

    Raises:
        PrefkitError: weights are named that no metric reads or that are not there.
    """
    weights = weights or {}
    metrics = list(known_metrics().values())
    check_weights(weights, metrics)
    return [
        {
            "name": metric.name,
            "version": row_version(metric, weights),
            "direction": metric.direction,
            "unit": metric.unit,
            "needs": ", ".join(metric.needs),
            "description": metric.description,
            "source": metric.source,
            "lacks": metric.lacks(weights),
        }
        for metric in metrics
    ]
