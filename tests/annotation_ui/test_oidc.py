"""Sign-in by OpenID Connect: a provider in a process of its own, `.streamlit/secrets.toml`, a browser."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from annotation_ui.screenshot import browser_page, find_chromium, running_server
from prefkit.votes.accounts import invite, revoke
from prefkit.votes.store import VoteStore
from tests.annotation_ui.browsing import PATIENCE, keep_picture

pytest.importorskip("playwright", reason="the browser tests need Playwright: pip install 'prefkit[dev]'")
pytest.importorskip("authlib", reason="sign-in by OpenID Connect needs Authlib: pip install 'prefkit[oidc]'")
pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium; get it with 'apt-get install chromium'"),
    pytest.mark.timeout(600),
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def url(workspace, tmp_path):
    """A server whose working folder has secrets that name the provider."""
    port, provider_port = free_port(), free_port()
    redirect = f"http://localhost:{port}/oauth2callback"
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(f"""[auth]
redirect_uri = "{redirect}"
cookie_secret = "a-secret-of-the-tests-that-is-long-enough"
client_id = "prefkit"
client_secret = "provider-knows-it-too"
server_metadata_url = "http://localhost:{provider_port}/.well-known/openid-configuration"
""")
    program = str(Path(__file__).with_name("oidc_provider.py"))
    provider = subprocess.Popen(
        [sys.executable, program, str(provider_port), "prefkit", "provider-knows-it-too", redirect]
    )
    try:
        with running_server(workspace.root, open_to_all=False, port=port, folder=tmp_path):
            yield f"http://localhost:{port}"
    finally:
        provider.terminate()
        provider.wait(30)


def sign_in(page, url, email, verified=True):
    page.goto(url)
    page.get_by_role("button", name="Sign in with your account").click()
    page.get_by_role("textbox", name="E-mail").fill(email)
    page.get_by_role("checkbox").set_checked(verified)
    page.get_by_role("button", name="Sign in").click()


def test_an_invited_address_comes_in_and_no_other(url, workspace):
    store = VoteStore.in_workspace(workspace)
    invite(store, "oidc-1", contact="Ann@Example.org")
    with browser_page() as page:
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        page.get_by_role("button", name="Sign in with your account").wait_for()
        keep_picture(page, "sign-in-by-account")
        sign_in(page, url, "ann@example.org")
        page.locator(".pk[data-state=ready]").wait_for()
        assert page.url.rstrip("/") == url and page.locator(".who").inner_text() == "oidc-1"
        revoke(store, "oidc-1")
        page.reload()
        page.get_by_text("ann@example.org was not invited").wait_for()
    for email, verified, said in (
        ("eve@example.org", True, "eve@example.org was not invited"),
        ("ann@example.org", False, "your e-mail address is not verified"),
    ):
        with browser_page() as page:
            page.set_default_timeout(PATIENCE)
            sign_in(page, url, email, verified)
            page.get_by_text(said).wait_for()
            keep_picture(page, "not-invited")
            assert page.locator(".pk").count() == 0
    store.close()
