"""Who may come in: personal links, passwords, e-mail addresses, and the leads among them.

A link's secret and a password are stored as hashes alone. What identifies a person (a contact) stays in
this table; votes carry the pseudonym.
"""

import hashlib
import hmac
import math
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.votes.schema import accounts, password_tries
from prefkit.votes.store import VoteStore, ensure_annotators, utc_now

ROLES = ("annotator", "lead")
_PSEUDONYM = re.compile(r"[\w.-]{1,40}")
_SHORTEST_PASSWORD = 10
MOST_TRIES = 10  # passwords for one name within `TRY_WINDOW`; a personal link is not held up by them
TRY_WINDOW = timedelta(minutes=15)


class TooManyTries(PrefkitError):
    """Too many wrong passwords for one name; later tries are not looked at for a while."""


@dataclass(frozen=True)
class Account:
    """Somebody who may come in: a pseudonym and a role, "annotator" or "lead"."""

    annotator: str
    role: str


def check_pseudonym(name: Any) -> str:
    """Returns the name an annotator votes under.

    Raises:
        PrefkitError: it is not 1 to 40 letters, digits, dots, dashes or underscores, or it belongs to
            simulated annotators.
    """
    if not isinstance(name, str) or not _PSEUDONYM.fullmatch(name):
        raise PrefkitError(f"{str(name)[:40]!r} is no annotator name; use up to 40 letters, digits, '.', '-' and '_'")
    if name.startswith("simulated-"):
        raise PrefkitError(f"{name!r} is a name of simulated annotators; choose another one")
    return name


def random_pseudonym() -> str:
    """A name that says nothing about anybody."""
    return f"a-{secrets.token_hex(4)}"


def invite(
    store: VoteStore,
    annotator: str | None = None,
    *,
    role: str = "annotator",
    contact: str | None = None,
    password: str | None = None,
) -> tuple[str, str]:
    """Lets somebody in, or gives who is already in a new link; an older link ends with it.

    Args:
        store: the vote store.
        annotator: the pseudonym; None for a random one.
        role: one of `ROLES`.
        contact: an e-mail address, for sign-in by OpenID Connect.
        password: at least 10 characters, for sign-in by name and password.

    Returns:
        The pseudonym and the link's secret. It is not stored and cannot be shown again.

    Raises:
        PrefkitError: a name, role or password that will not do, or a contact that another account has.
    """
    annotator = check_pseudonym(annotator) if annotator is not None else random_pseudonym()
    if role not in ROLES:
        raise PrefkitError(f"there is no role {role!r}; expected annotator or lead")
    if password is not None and len(password) < _SHORTEST_PASSWORD:
        raise PrefkitError(f"the password has {len(password)} characters; use at least {_SHORTEST_PASSWORD}")
    secret = secrets.token_urlsafe(24)
    row: dict[str, Any] = {"role": role, "link_hash": _hash(secret), "revoked_at": None}
    if contact is not None:
        row["contact"] = contact.strip().lower()
    if password is not None:
        row["password"] = _scrypt(password, os.urandom(16))
    with store.writing() as connection:
        if contact is not None:
            holder = sa.select(accounts.c.annotator).where(accounts.c.contact == row["contact"])
            if connection.scalar(holder) not in (None, annotator):
                raise PrefkitError(f"{contact} belongs to another account; revoke that one first")
        ensure_annotators(connection, {annotator: "human"})
        mine = accounts.c.annotator == annotator
        if not connection.execute(accounts.update().where(mine).values(row)).rowcount:
            connection.execute(accounts.insert().values(annotator=annotator, created_at=utc_now(), **row))
    return annotator, secret


def revoke(store: VoteStore, annotator: str) -> None:
    """Keeps somebody out from now on; their votes stay.

    Raises:
        PrefkitError: there is no such account.
    """
    with store.writing() as connection:
        mine = accounts.c.annotator == annotator
        if not connection.execute(accounts.update().where(mine).values(revoked_at=utc_now())).rowcount:
            raise PrefkitError(f"there is no account {annotator!r}; 'prefkit votes accounts' lists them")


def by_link(store: VoteStore, secret: str) -> Account | None:
    """Whose personal link this is, or None."""
    return _find(store, accounts.c.link_hash == _hash(secret))


def by_contact(store: VoteStore, contact: str) -> Account | None:
    """Whose e-mail address this is, or None."""
    return _find(store, accounts.c.contact == contact.strip().lower())


def by_name(store: VoteStore, annotator: str) -> Account | None:
    """The account of that name, if it may come in now."""
    return _find(store, accounts.c.annotator == annotator)


def by_password(store: VoteStore, annotator: str, password: str, *, now: datetime | None = None) -> Account | None:
    """The account of that name and password, or None; both take the same time.

    Args:
        store: the vote store; it counts the tries, so that several servers count together.
        annotator: the pseudonym.
        password: what was typed.
        now: the time, for tests.

    Raises:
        TooManyTries: `MOST_TRIES` wrong ones came within `TRY_WINDOW`; the right one is refused too, else
            guessing could go on.
    """
    _count_try(store, annotator, now or utc_now())
    with store.reading() as connection:
        stored = connection.scalar(sa.select(accounts.c.password).where(accounts.c.annotator == annotator))
    salt = bytes.fromhex(stored.partition("$")[0]) if stored else bytes(16)
    right = hmac.compare_digest(_scrypt(password, salt), stored or "")
    if right:
        with store.writing() as connection:
            connection.execute(password_tries.delete().where(password_tries.c.annotator == annotator))
    return by_name(store, annotator) if right else None


def _count_try(store: VoteStore, annotator: str, now: datetime) -> None:
    """Counts before it is known whether the password is right: tries at the same moment cannot slip through."""
    mine = password_tries.c.annotator == annotator
    with store.writing() as connection:
        connection.execute(password_tries.delete().where(password_tries.c.tried_at <= now - TRY_WINDOW))
        tries = connection.scalars(sa.select(password_tries.c.tried_at).where(mine)).all()
        if len(tries) >= MOST_TRIES:
            minutes = math.ceil((min(tries) + TRY_WINDOW - now).total_seconds() / 60)
            raise TooManyTries(
                f"too many wrong passwords for {annotator!r}; try again in {minutes} min, or open your personal link"
            )
        connection.execute(password_tries.insert().values(annotator=annotator, tried_at=now))


def list_accounts(store: VoteStore) -> pd.DataFrame:
    """One row an account, without its secrets: annotator, role, contact, created_at, revoked_at."""
    columns = [accounts.c[name] for name in ("annotator", "role", "contact", "created_at", "revoked_at")]
    with store.reading() as connection:
        rows = connection.execute(sa.select(*columns).order_by(accounts.c.annotator)).mappings().all()
    return pd.DataFrame([dict(row) for row in rows], columns=[column.name for column in columns])


def _find(store: VoteStore, which: sa.ColumnElement[bool]) -> Account | None:
    query = sa.select(accounts.c.annotator, accounts.c.role).where(which, accounts.c.revoked_at.is_(None))
    with store.reading() as connection:
        row = connection.execute(query).one_or_none()
    return Account(row.annotator, row.role) if row else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _scrypt(password: str, salt: bytes) -> str:
    digest = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
    return f"{salt.hex()}${digest.hex()}"
