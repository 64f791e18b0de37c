"""A disk that fills up: asked about before, and a sentence when it happens."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from prefkit.errors import PrefkitError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# what safetensors and torch.save say instead of an error number
_FULL_WORDS = ("no space left", "file too large", "disk quota", "unexpected pos", "file write failed")


def check_room(folder: Path, wanted: int, what: str) -> None:
    """Raises PrefkitError where `wanted` bytes do not fit on the folder's disk."""
    free = shutil.disk_usage(_existing(folder)).free
    if wanted > free:
        raise PrefkitError(
            f"{what} will take about {gigabytes(wanted)}, but {folder} has {gigabytes(free)} left; "
            "make room, or name a folder on another disk"
        )


def gigabytes(size: int) -> str:
    """1234567 -> "1.2 MB"; "GB" from a thousand of them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


@contextlib.contextmanager
def full_disk_is_a_sentence(folder: Path) -> Iterator[None]:
    """Turns a failed write for lack of room into a PrefkitError.

    What is half-written must be removed by whoever wrote it.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if getattr(error, "errno", None) not in _FULL and not any(word in str(error).lower() for word in _FULL_WORDS):
            raise
        raise PrefkitError(
            f"the disk of {folder} is full ({error}); make room and run the same command again, it goes on from there"
        ) from error


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
