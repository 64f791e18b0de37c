"""VideoAlign's pairs (KwaiVGI, arXiv 2501.13918): a CSV with a verdict per axis.

| column | becomes |
|---|---|
| `path_A`, `path_B` | the left and the right clip, relative to the file |
| `prompt` | the condition and its text |
| `VQ` | a vote on `visual_quality` |
| `MQ` | a vote on `motion_quality` |
| `TA` | a vote on `text_alignment` |
| `Overall`, where it is there | a vote on `overall` |
| `A`, `B`, `same` | left, right, tie; an empty cell is no vote |
| `fps_A`, `num_frames_A`, … | nothing: the clips themselves say it |

The file names no annotators (its verdicts are settled by several people), so all votes are by one, `videoalign`.
"""

from pathlib import Path

from prefkit.importing.manifest import word
from prefkit.importing.verdicts import Verdict, cell, read_rows, translated

AXES = {"VQ": "visual_quality", "MQ": "motion_quality", "TA": "text_alignment", "Overall": "overall"}
CHOICES = {"A": "left", "B": "right", "same": "tie"}


def read_verdicts(source: Path, _scratch: Path) -> list[Verdict]:
    """Reads a CSV of VideoAlign.

    Raises:
        PrefkitError: a column is missing, a cell is empty or says something else.
    """
    verdicts = []
    for number, row in enumerate(read_rows(source, ("path_A", "path_B", "prompt")), start=1):
        prompt = cell(source, number, row, "prompt")
        for axis, criterion in AXES.items():
            said = word(row.get(axis))
            if said is None:
                continue
            verdicts.append(
                Verdict(
                    row=number,
                    left=source.parent / cell(source, number, row, "path_A"),
                    right=source.parent / cell(source, number, row, "path_B"),
                    choice=translated(source, number, axis, said, CHOICES),
                    criterion=criterion,
                    annotator="videoalign",
                    condition=prompt,
                    text=prompt,
                )
            )
    return verdicts
