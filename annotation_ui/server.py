"""Starts the annotation page: a Streamlit app with routes of its own."""

import contextlib
import socket
import webbrowser
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import streamlit as st

from annotation_ui.routes import Comparisons, make_routes
from prefkit.errors import PrefkitError
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

PAGE = Path(__file__).with_name("page.py")


def serve(workspace_path: str | Path, *, host: str = "127.0.0.1", port: int = 8501, open_browser: bool = False) -> None:
    """Serves the annotation page of a workspace until it is interrupted.

    Args:
        workspace_path: a workspace with comparisons.
        host: the address to listen on. Whoever reaches it may vote under any name.
        port: the port to listen on.
        open_browser: whether to open the page here.

    Raises:
        PrefkitError: there is no workspace, it has nothing to annotate, or the port is in use.
    """
    workspace = Workspace.open(workspace_path)
    comparisons = Comparisons(workspace)
    _check_port(host, port)
    # Last, so that a mistake leaves the workspace as it was.
    routes = make_routes(comparisons, VoteStore.in_workspace(workspace))
    url = f"http://{'localhost' if host in {'127.0.0.1', '0.0.0.0'} else host}:{port}"

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
