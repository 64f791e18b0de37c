"""All metrics by name."""

from collections.abc import Iterable
from typing import Any

from prefkit.errors import PrefkitError, nearest_names
from prefkit.media import sha256_file
from prefkit.metrics import expression, lipsync, motion, stillness
from prefkit.metrics.metric import Metric, Weights

# A family imports its heavy packages (torch, OpenCV) where it scores, so that this list needs none of them.
FAMILIES = (lipsync, expression, motion, stillness)
METRICS: dict[str, Metric] = {metric.name: metric for family in FAMILIES for metric in family.METRICS}


def find_metrics(names: Iterable[str] | None = None) -> list[Metric]:
    """The metrics of these names, each once; all of them for None.

    Raises:
        PrefkitError: there is no metric of a name, or no name at all.
    """
    if names is None:
        return list(METRICS.values())
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in METRICS:
            raise PrefkitError(f"there is no metric {name!r}{nearest_names(name, METRICS)}")
    if not wanted:
        raise PrefkitError("no metric is named; name one that 'prefkit metrics' lists, or leave the option out for all")
    return [METRICS[name] for name in wanted]


def check_weights(weights: Weights) -> None:
    """Checks the weight files a user named.

    Raises:
        PrefkitError: no metric reads weights of a name, or there is no such file.
    """
    known = {metric.weights for metric in METRICS.values() if metric.weights}
    for name, path in weights.items():
        if name not in known:
            raise PrefkitError(f"no metric reads weights called {name!r}{nearest_names(name, known or {'none'})}")
        if not path.is_file():
            raise PrefkitError(f"there is no file {path}; expected the weights of {name}")


def row_version(metric: Metric, weights: Weights) -> str:
    """The version in this metric's rows: its own and, where the user names weights, the start of their SHA-256."""
    if metric.weights is None or metric.weights not in weights:
        return metric.version
    return f"{metric.version}+{sha256_file(weights[metric.weights])[:8]}"


def describe_metrics(weights: Weights | None = None) -> list[dict[str, Any]]:
    """One row per metric for people to read: what it is, and what it lacks on this machine (None: it can run).

    Raises:
        PrefkitError: weights are named that no metric reads or that are not there.
    """
    weights = weights or {}
    check_weights(weights)
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
        for metric in METRICS.values()
    ]
