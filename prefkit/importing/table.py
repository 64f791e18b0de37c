"""A plain table of answers, one a row.

| column | becomes |
|---|---|
| `left`, `right` | the clips: paths relative to the file |
| `choice` | left, right, tie, both_bad or skip |
| `annotator` | the annotator's pseudonym |
| `criterion`, where it is there | the criterion; else `overall` |
| `condition`, where it is there | the condition's name; else clips that are compared belong together |
| `text`, where it is there | the condition's text |
"""

from pathlib import Path

from prefkit.importing.manifest import word
from prefkit.importing.verdicts import Verdict, cell, read_rows, translated
from prefkit.votes.sides import SCREEN_CHOICES


def read_verdicts(source: Path, _scratch: Path) -> list[Verdict]:
    """Reads a plain table of answers.

    Raises:
        PrefkitError: a column is missing, a cell is empty or says something else.
    """
    known = {choice: choice for choice in SCREEN_CHOICES}
    return [
        Verdict(
            row=number,
            left=source.parent / cell(source, number, row, "left"),
            right=source.parent / cell(source, number, row, "right"),
            choice=translated(source, number, "choice", cell(source, number, row, "choice"), known),
            criterion=word(row.get("criterion")) or "overall",
            annotator=cell(source, number, row, "annotator"),
            condition=word(row.get("condition")),
            text=word(row.get("text")),
        )
        for number, row in enumerate(read_rows(source, ("left", "right", "choice", "annotator")), start=1)
    ]
