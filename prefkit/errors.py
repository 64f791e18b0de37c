"""A user's mistake is one sentence with the remedy; a bug keeps its traceback."""

import difflib
from collections.abc import Iterable


class PrefkitError(Exception):
    """A mistake the user can mend.

    The message is one sentence: what was found, what was expected, what to do. The command line
    prints it without a traceback and exits with code 2.
    """


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Ends a sentence about an unknown name: `` – did you mean 'flicker'?``, or the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return " – did you mean " + " or ".join(repr(match) for match in close) + "?"
    return f"; known are {', '.join(names)}"
