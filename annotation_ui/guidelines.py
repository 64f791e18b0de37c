"""The annotation guidelines, as the page shows them and as votes name them."""

import re
from dataclasses import dataclass
from importlib.resources import files

from markdown_it import MarkdownIt

from prefkit.errors import PrefkitError


@dataclass(frozen=True)
class Guidelines:
    """The text as Markdown without its version line, as HTML, and the version that goes with each vote."""

    version: str
    text: str
    html: str


def read_guidelines() -> Guidelines:
    """Reads `data_cards/guidelines.md`.

    Raises:
        PrefkitError: it has no line `Version: …`.
    """
    text = (files("data_cards") / "guidelines.md").read_text(encoding="utf-8")
    return parse_guidelines(text)


def parse_guidelines(text: str) -> Guidelines:
    """Splits the version from Markdown guidelines; markup in them stays text.

    Raises:
        PrefkitError: there is no line `Version: …`.
    """
    version = re.search(r"^Version:[ \t]*(\S+)[ \t]*\n", text, re.MULTILINE)
    if version is None:
        raise PrefkitError("the guidelines have no version; add a line 'Version: 1' to data_cards/guidelines.md")
    body = text.replace(version.group(0), "", 1)
    return Guidelines(version.group(1), body, MarkdownIt("commonmark", {"html": False}).render(body))
