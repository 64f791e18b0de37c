"""Weight files that a user names: a path, or a file on the Hugging Face hub."""

import functools
import hashlib
import importlib
import re
from pathlib import Path

from prefkit.errors import PrefkitError
from prefkit.media import sha256_file

HUB = re.compile(r"^hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<file>.+)$")


def local_file(name: str | Path) -> Path:
    """The file behind a path or `hf://owner/repo[@revision]/path/in/repo`, downloaded once to the hub's cache.

    Raises:
        PrefkitError: there is no such file, or it cannot be downloaded.
    """
    found = HUB.match(str(name))
    if not found:
        return Path(name)
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise PrefkitError(f"{name} is on a hub; get what reads it with: pip install huggingface_hub") from None
    try:
        return Path(hub.hf_hub_download(found["repo"], found["file"], revision=found["revision"]))
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PrefkitError(f"{name} cannot be downloaded ({first}); download it by hand and give its path") from None


def weights_hash(path: Path) -> str:
    """SHA-256 of a weight file, or of all files in a folder of a model, in hex; computed once a process."""
    status = path.stat()
    return _hash(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _hash(path: Path, changed: int, size: int) -> str:
    if path.is_file():
        return sha256_file(path)
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole.update(f"{file.relative_to(path)} {sha256_file(file)}\n".encode())
    return whole.hexdigest()
