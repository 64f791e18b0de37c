"""What the routes and the page share: one workspace, its votes, its settings, and who may come in.

Streamlit runs the page as a script in the server's process; `running()` is how the script finds all this.
"""

from dataclasses import dataclass

from annotation_ui.clips import Comparisons
from annotation_ui.settings import Settings
from annotation_ui.signing import Signer
from prefkit.errors import PrefkitError
from prefkit.votes.accounts import (
    Account,
    TooManyTries,
    by_contact,
    by_link,
    by_name,
    by_password,
    check_pseudonym,
)
from prefkit.votes.queue import Queue
from prefkit.votes.store import VoteStore

SESSION_SECONDS = 12 * 3600


class NotAllowed(PrefkitError):
    """Somebody who is not signed in, or not for this."""


@dataclass(frozen=True)
class Site:
    """One annotation server.

    Attributes:
        comparisons: what can be shown.
        store: the votes.
        queue: who is asked what.
        settings: how it is asked.
        signer: makes sessions and addresses of clips.
        open_to_all: whoever reaches the page may vote under any name and see the lead's page.
    """

    comparisons: Comparisons
    store: VoteStore
    queue: Queue
    settings: Settings
    signer: Signer
    open_to_all: bool

    def session(self, account: Account) -> str:
        """A token for requests in this annotator's name."""
        content = {"annotator": account.annotator, "role": account.role}
        return self.signer.token("session", content, seconds=SESSION_SECONDS)

    def account(self, session: str | None) -> Account:
        """Whose session this is.

        Raises:
            NotAllowed: it is altered or expired, or the account has been revoked since.
        """
        content = self.signer.read("session", session or "")
        found = Account(**content) if content else None
        if found is not None and not self.open_to_all:
            found = by_name(self.store, found.annotator)
        if found is None:
            raise NotAllowed("you are not signed in; open your personal link again")
        return found

    def sign_in(self, *, name: str | None = None, link: str | None = None, password: str | None = None) -> Account:
        """Who comes in by a personal link, by name and password, or, where the page is open to all, by name.

        Raises:
            NotAllowed: the link or the password is wrong or was revoked, or too many passwords were tried.
            PrefkitError: the name will not do.
        """
        if link is not None:
            found = by_link(self.store, link)
            if found is None:
                raise NotAllowed("this link is not valid (any more); ask whoever invited you for a new one")
            return found
        annotator = check_pseudonym(name)
        if password is not None:
            try:
                found = by_password(self.store, annotator, password)
            except TooManyTries as error:
                raise NotAllowed(str(error)) from None
            if found is None:
                raise NotAllowed("name or password is wrong")
            return found
        if not self.open_to_all:
            raise NotAllowed("annotators are invited here; open your personal link")
        return Account(annotator, "lead")

    def of_contact(self, contact: str) -> Account:
        """Who comes in by a verified e-mail address.

        Raises:
            NotAllowed: nobody with that address was invited.
        """
        found = by_contact(self.store, contact)
        if found is None:
            raise NotAllowed(f"{contact} was not invited; ask whoever runs this annotation")
        return found


_running: list[Site] = []


def start(site: Site) -> None:
    """Makes this the site that the page of this process shows."""
    _running[:] = [site]


def running() -> Site:
    """The site of this process."""
    return _running[0]
