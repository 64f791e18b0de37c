"""Tokens that only this store's servers can make: sessions, and addresses of clips that expire."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

_HOUR = 3600


class Signer:
    """Signs with HMAC-SHA-256.

    Args:
        key: a secret that all servers of one store share (`VoteStore.secret`).
    """

    def __init__(self, key: bytes):
        self._key = key

    def token(self, purpose: str, content: dict[str, Any], *, seconds: float, now: float | None = None) -> str:
        """A text that `read` turns back into `content` until `seconds` have passed."""
        expires = (time.time() if now is None else now) + seconds
        body = json.dumps({"expires": expires, "content": content}, separators=(",", ":")).encode()
        text = base64.urlsafe_b64encode(body).decode().rstrip("=")
        return f"{text}.{self._mac(purpose, text)}"

    def read(self, purpose: str, token: str, *, now: float | None = None) -> dict[str, Any] | None:
        """The content of a token made for this purpose, or None where it is altered or expired."""
        text, _, mac = token.partition(".")
        if not _same(mac, self._mac(purpose, text)):
            return None
        body = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return body["content"] if body["expires"] > (time.time() if now is None else now) else None

    def sign_path(self, path: str, *, now: float | None = None) -> str:
        """Adds a signature that holds for one to two hours; the same within an hour, so that browsers keep the file."""
        expires = (int(time.time() if now is None else now) // _HOUR + 2) * _HOUR
        return f"{path}?expires={expires}&signature={self._mac('path', _joined(path, expires))}"

    def path_is_signed(self, path: str, expires: str, signature: str, *, now: float | None = None) -> bool:
        """Whether the signature is ours, of this path, and has not expired."""
        if not _same(signature, self._mac("path", _joined(path, expires))):
            return False
        return int(expires) > (time.time() if now is None else now)

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()[:40]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _joined(path: str, expires: str | int) -> str:
    return f"{path}\n{expires}"
