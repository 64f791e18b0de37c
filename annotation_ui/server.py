"""Starts the annotation page: a Streamlit app with routes of its own."""

import contextlib
import socket
import webbrowser
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import streamlit as st

from annotation_ui.clips import Comparisons
from annotation_ui.routes import make_routes
from annotation_ui.settings import read_settings
from annotation_ui.signing import Signer
from annotation_ui.site import Site, start
from prefkit.errors import PrefkitError
from prefkit.votes.queue import Queue
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

PAGE = Path(__file__).with_name("page.py")


_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def serve(
    workspace_path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    open_browser: bool = False,
    open_to_all: bool | None = None,
) -> None:
    """Serves the annotation page of a workspace until it is interrupted.

    Args:
        workspace_path: a workspace with comparisons.
        host: the address to listen on.
        port: the port to listen on.
        open_browser: whether to open the page here.
        open_to_all: whether whoever reaches the page may vote under any name and see the lead's page;
            None: only where nobody but this machine can reach it. Otherwise people come in by invitation
            (`prefkit votes invite`).

    Raises:
        PrefkitError: there is no workspace, it has nothing to annotate, or the port is in use.
    """
    workspace = Workspace.open(workspace_path)
    settings = read_settings(workspace.root)
    comparisons = Comparisons(workspace)
    _check_port(host, port)
    # Last, so that a mistake leaves the workspace as it was.
    store = VoteStore.in_workspace(workspace)
    queue = Queue(store, comparisons.rows, lease_seconds=60 * settings.lease_minutes, rules=settings.rules)
    signer = Signer(store.secret("signing"))
    everybody = host in _LOOPBACK if open_to_all is None else open_to_all
    site = Site(comparisons, store, queue, settings, signer, everybody)
    start(site)
    routes = make_routes(site)
    url = f"http://{'localhost' if host in _LOOPBACK | {'0.0.0.0'} else host}:{port}"

    @contextlib.asynccontextmanager
    async def opened(_app: Any) -> AsyncIterator[None]:
        # The socket listens before this runs, so the page may ask at once.
        if open_browser:
            webbrowser.open(url)
        yield

    app = st.App(PAGE, routes=routes, lifespan=opened)
    app.run(
        config={
            "server.address": host,
            "server.port": port,
            "server.headless": True,
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": False,
            "client.toolbarMode": "minimal",
            "theme.primaryColor": "#2f6f8f",
        }
    )


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise PrefkitError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
