"""The calibration as one HTML page that opens from disk without a network."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import jinja2

import prefkit
from prefkit.calibration.curves import SAYS, Curve
from prefkit.reporting.charts import exact, line_chart, number
from prefkit.workspace import atomic_write

HERE = Path(__file__).parent


def write_calibration(curves: Sequence[Curve], path: Path, *, portraits: int) -> Path:
    """Writes the page and returns its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": number, "exact": exact}
    faults = [(name, list(group)) for name, group in groupby(curves, key=lambda curve: curve.fault)]
    page = environment.get_template("calibration.html.jinja").render(
        faults=faults,
        chart=lambda curve: line_chart(
            {curve.metric: list(zip(curve.levels, curve.means, strict=True))}, x_label=f"{curve.fault}, {curve.unit}"
        ),
        says=SAYS,
        held=sum(curve.holds for curve in curves),
        total=len(curves),
        portraits=portraits,
        versions=f"prefkit {prefkit.__version__}, NumPy {version('numpy')}, Python {platform.python_version()}",
        style=(HERE.parent / "reporting" / "report.css").read_text(),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page)
    return path
