"""How a project asks: `annotation.toml` in its workspace. Everything has a default, so the file may be missing."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError, nearest_names
from prefkit.tables import CRITERIA
from prefkit.votes.queue import QueueRules

FILE_NAME = "annotation.toml"


@dataclass(frozen=True)
class Criterion:
    """One question about a pair: the name in the votes, a heading, a sentence."""

    id: str
    label: str
    question: str


_QUESTIONS = {
    "motion_video_alignment": ("Motion–video alignment", "Which follows the speech and the motion better?"),
    "expression": ("Expression", "Which face looks more natural and alive?"),
    "overall": ("Overall", "Which clip would you rather show?"),
}


@dataclass(frozen=True)
class Settings:
    """What `annotation.toml` can say.

    Attributes:
        criteria: the questions, in order.
        watch_first: voting opens after both clips were played through.
        confidence: ask how sure the annotator is.
        sound_check: before the first vote, ask whether sound and picture come together.
        gold_rate, repeat_rate, repeat_gap, qualification, qualification_accuracy: see `QueueRules`.
        lease_minutes: how long a pair is kept for who looks at it.
        completion_url: where to send an annotator when nothing is left, e.g. a crowd platform's address;
            `{annotator}` in it becomes the pseudonym.
    """

    criteria: tuple[Criterion, ...] = tuple(Criterion(name, *_QUESTIONS[name]) for name in CRITERIA)
    watch_first: bool = True
    confidence: bool = True
    sound_check: bool = True
    gold_rate: float = 0.1
    repeat_rate: float = 0.05
    repeat_gap: int = 10
    qualification: int = 0
    qualification_accuracy: float = 0.7
    lease_minutes: float = 15.0
    completion_url: str = ""

    @property
    def rules(self) -> QueueRules:
        """The part that the queue follows."""
        return QueueRules(**{field.name: getattr(self, field.name) for field in dataclasses.fields(QueueRules)})


def read_settings(folder: Path) -> Settings:
    """Reads `annotation.toml` of a workspace, or gives the defaults.

    Raises:
        PrefkitError: it is no TOML, or has an unknown name or a value that will not do.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Settings()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PrefkitError(f"{path} is no TOML ({error}); mend it or remove it for the defaults") from None
    return parse_settings(found, str(path))


def parse_settings(found: dict[str, Any], name: str = FILE_NAME) -> Settings:
    """Checks what a settings file says.

    Raises:
        PrefkitError: an unknown name or a value that will not do.
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    for key, value in found.items():
        if key not in fields:
            raise PrefkitError(f"{name} has no setting {key!r}{nearest_names(key, fields)}")
        values[key] = _criteria(value, name) if key == "criteria" else _like(fields[key].default, value, key, name)
    for key in ("gold_rate", "repeat_rate", "qualification_accuracy"):
        if not 0 <= values.get(key, 0) <= 1:
            raise PrefkitError(f"{name} has {key} = {values[key]}; expected a share from 0 to 1")
    return Settings(**values)


def _like(default: Any, value: Any, key: str, name: str) -> Any:
    right = isinstance(value, bool) == isinstance(default, bool) and isinstance(
        value, (int, float) if isinstance(default, float) else type(default)
    )
    if not right:
        raise PrefkitError(f"{name} has {key} = {value!r}; expected something like {default!r}")
    return value


def _criteria(value: Any, name: str) -> tuple[Criterion, ...]:
    try:
        found = tuple(Criterion(**one) for one in value)
    except TypeError:
        raise PrefkitError(f"{name} has criteria that are not tables of id, label and question") from None
    if not found or len({one.id for one in found}) < len(found):
        raise PrefkitError(f"{name} names no criterion, or one of them twice")
    return found
