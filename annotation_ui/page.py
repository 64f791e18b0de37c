"""The Streamlit script: asks who votes, then mounts the player, which does the rest with our routes."""

from pathlib import Path

import streamlit as st

from annotation_ui.ballot import check_pseudonym
from annotation_ui.guidelines import read_guidelines
from annotation_ui.routes import PREFIX
from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA

HERE = Path(__file__).parent
# Streamlit loads one script; ours are several, one subject each.
SCRIPTS = ("soundtrack.js", "pair_player.js", "vote_client.js", "annotate.js")

LABELS = {
    "motion_video_alignment": ("Motion–video alignment", "Which follows the speech and the motion better?"),
    "expression": ("Expression", "Which face looks more natural and alive?"),
    "overall": ("Overall", "Which clip would you rather show?"),
}

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
    """The start page: a pseudonym, and the guidelines below."""
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


def show_player(annotator: str) -> None:
    """Mounts the player; it never makes Streamlit run this script again."""
    st.html(FULL_PAGE)
    player(
        key="player",
        data={
            "annotator": annotator,
            "api": PREFIX,
            "criteria": [{"id": name, "label": LABELS[name][0], "question": LABELS[name][1]} for name in CRITERIA],
            "guidelines": {"version": guidelines.version, "html": guidelines.html},
        },
    )


guidelines = read_guidelines()
wanted = st.query_params.get("annotator")
known = complaint = None
try:
    known = None if wanted is None else check_pseudonym(wanted)
except PrefkitError as error:
    complaint = str(error)
st.set_page_config(page_title="prefkit – compare clips", layout="wide" if known else "centered")
if known:
    show_player(known)
else:
    ask_name(complaint)
