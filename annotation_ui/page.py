"""The Streamlit script: finds out who is here, then mounts the player, or shows the lead's page."""

import urllib.parse
from dataclasses import asdict
from pathlib import Path

import streamlit as st

from annotation_ui.access import COOKIE
from annotation_ui.clips import PREFIX
from annotation_ui.guidelines import read_guidelines
from annotation_ui.site import NotAllowed, running
from prefkit.errors import PrefkitError
from prefkit.votes.accounts import Account

HERE = Path(__file__).parent
# Streamlit loads one script; ours are several, one subject each.
SCRIPTS = (
    "soundtrack.js",
    "pair_player.js",
    "vote_client.js",
    "sound_check.js",
    "keys.js",
    "ballot_form.js",
    "annotate.js",
)

# The player fills the window: Streamlit's own margins and header would only push it below the fold.
FULL_PAGE = """<style>
[data-testid="stHeader"] { display: none; }
[data-testid="stMainBlockContainer"] { padding: 0; max-width: none; }
[data-testid="stMain"] { overflow: hidden auto; }
[data-testid="stVerticalBlock"] { gap: 0; }
</style>"""

player = st.components.v2.component(
    "prefkit_pair_player",
    html=(HERE / "annotate.html").read_text(encoding="utf-8"),
    css=(HERE / "annotate.css").read_text(encoding="utf-8"),
    js="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
)


def ask_name(problem: str | None) -> None:
    """The start page of a server that is open to all: a pseudonym, and the guidelines below."""
    st.title("Compare clips")
    with st.form("who"):
        name = st.text_input("Your annotator name", placeholder="e.g. robin-7", max_chars=40)
        st.caption("A pseudonym will do. Come back under the same name to go on where you stopped.")
        if st.form_submit_button("Start", type="primary"):
            st.query_params["annotator"] = name.strip()
            st.rerun()
    if problem:
        st.error(problem)
    st.markdown(guidelines.text)


def ask_to_sign_in(problem: str | None) -> None:
    """The start page of a server to which annotators are invited."""
    st.title("Compare clips")
    st.write("Annotators are invited here. Open your personal link, or sign in.")
    if problem:
        st.error(problem)
    if signs_in_by_oidc():
        st.button("Sign in with your account", type="primary", on_click=st.login)
    st.link_button("Sign in with name and password", f"{PREFIX}/login")


def signs_in_by_oidc() -> bool:
    """Whether `.streamlit/secrets.toml` configures OpenID Connect."""
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False


def who_is_here() -> Account | None:
    """The account of whoever opened the page, or None if they have to sign in first."""
    if site.open_to_all:
        name = st.query_params.get("annotator")
        return None if name is None else site.sign_in(name=name)
    if signs_in_by_oidc() and st.user.is_logged_in:
        if not st.user.get("email_verified", True):
            raise NotAllowed("your e-mail address is not verified; verify it where you signed in")
        return site.of_contact(str(st.user.email))
    cookie = st.context.cookies.get(COOKIE)
    return None if cookie is None else site.account(cookie)


def show_player(account: Account) -> None:
    """Mounts the player; it never makes Streamlit run this script again."""
    st.html(FULL_PAGE)
    settings = site.settings
    name = urllib.parse.quote(account.annotator, safe="")
    player(
        key="player",
        data={
            "annotator": account.annotator,
            "session": site.session(account),
            "lead": account.role == "lead",
            "api": PREFIX,
            "criteria": [asdict(criterion) for criterion in settings.criteria],
            "watch_first": settings.watch_first,
            "confidence": settings.confidence,
            "completion_url": settings.completion_url.replace("{annotator}", name),
            "guidelines": {"version": guidelines.version, "html": guidelines.html},
        },
    )


site = running()
guidelines = read_guidelines()
account = complaint = None
try:
    account = who_is_here()
except PrefkitError as error:
    complaint = str(error)
wants_lead = "lead" in st.query_params
may_lead = account is not None and account.role == "lead" or site.open_to_all
st.set_page_config(page_title="prefkit – compare clips", layout="wide" if account or wants_lead else "centered")
if wants_lead and may_lead:
    from annotation_ui.lead import show_lead

    show_lead(site, account.annotator if account else "lead")
elif wants_lead and account:
    st.error("This page is for leads.")
elif account:
    show_player(account)
elif site.open_to_all:
    ask_name(complaint)
else:
    ask_to_sign_in(complaint)
