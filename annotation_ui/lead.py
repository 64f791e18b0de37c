"""The lead's page: how far it is, how good the answers are, and the decisions to take."""

from typing import Any

import pandas as pd
import streamlit as st

from annotation_ui.clips import PREFIX
from annotation_ui.guidelines import read_guidelines
from annotation_ui.site import Site
from prefkit.errors import PrefkitError
from prefkit.votes.accounts import invite, list_accounts, revoke
from prefkit.votes.progress import clip_seconds, hours, progress
from prefkit.votes.quality import agreements, disagreements, per_annotator
from prefkit.votes.verdicts import ANSWERS, decide, read_verdicts

_NAMES = {
    "ballots": "Ballots", "hours": "Hours", "per_hour": "Per hour", "median_seconds": "Median s",
    "too_fast": "Too fast",
    "skipped": "Skipped", "left_share": "Left", "agreement": "With others", "gold": "Gold right",
    "gold_questions": "Gold", "consistency": "Same again", "repeats": "Repeats",
}  # fmt: skip
_SHARES = ("too_fast", "skipped", "left_share", "agreement", "gold", "consistency")


def show_lead(site: Site, name: str) -> None:
    """Draws the page for the lead of that name."""
    st.title("Annotation")
    votes = site.store.cast_votes()
    _show_progress(site, votes)
    tabs = st.tabs(["Annotators", "Disagreements", "Gold", "Access", "Guidelines"])
    with tabs[0]:
        _show_annotators(site, votes, name)
    with tabs[1]:
        _show_disagreements(site, votes, name)
    with tabs[2]:
        _show_gold(site, name)
    with tabs[3]:
        _show_access(site)
    with tabs[4]:
        st.markdown(read_guidelines().text)


def _show_progress(site: Site, votes: pd.DataFrame) -> None:
    found = progress(site.store)
    done, total = sum(one.done for one in found.values()), sum(one.total for one in found.values())
    ballots = votes.drop_duplicates(["comparison_id", "annotator", "repeat"])
    worked = hours(site.store)["hours"].sum()
    columns = st.columns(4)
    columns[0].metric("Comparisons answered", f"{done} of {total}")
    columns[1].metric("Ballots", len(ballots))
    columns[2].metric("Ballots an hour", f"{len(ballots) / worked:.0f}" if worked else "–")
    columns[3].metric("Answers still wanted", sum(one.wanted for one in found.values()))
    st.progress(done / total if total else 0.0)
    labels = {criterion.id: criterion.label for criterion in site.settings.criteria}
    measured = agreements(votes)
    for column, one in zip(st.columns(max(1, len(measured))), measured, strict=False):
        interval = None if one.alpha is None else f"{one.low:.2f} to {one.high:.2f}, {one.questions} questions"
        value = "–" if one.alpha is None else f"{one.alpha:.2f}"
        column.metric(f"Agreement (alpha): {labels.get(one.criterion, one.criterion)}", value)
        column.caption(interval or "not enough answers yet")


def _show_annotators(site: Site, votes: pd.DataFrame, name: str) -> None:
    table = per_annotator(
        votes, read_verdicts(site.store, "gold"), clip_seconds=clip_seconds(site.comparisons.workspace)
    )
    formats: dict[str, Any] = {name: "%.1f" for name in ("hours", "per_hour", "median_seconds")}
    formats |= dict.fromkeys(_SHARES, "percent")
    shown = {_NAMES[name]: st.column_config.NumberColumn(format=how) for name, how in formats.items()}
    st.dataframe(table.rename(columns=_NAMES), hide_index=True, width="stretch", column_config=shown)
    st.download_button("Hours for pay (CSV)", hours(site.store).to_csv(index=False), "hours.csv", "text/csv")
    left, right = st.columns(2)
    excluded = site.store.exclusions()
    now = excluded[excluded["lifted_at"].isna()]
    with left.form("exclude", clear_on_submit=True):
        st.subheader("Leave somebody out")
        who = st.selectbox("Annotator", sorted(set(table["annotator"]) - set(now["annotator"])), index=None)
        reason = st.text_input("Reason, for the record")
        if st.form_submit_button("Exclude") and who and reason:
            site.store.exclude(who, reason, by=name)
            st.rerun()
    with right:
        st.subheader("Left out")
        if now.empty:
            st.caption("Nobody.")
        for row in now.to_dict("records"):
            st.text(
                f"{row['annotator']}: {row['reason']} ({row['decided_by'] or 'by rule'}, {row['created_at']:%Y-%m-%d})"
            )
            if st.button("Readmit", key=f"readmit-{row['exclusion_id']}"):
                site.store.readmit(row["annotator"])
                st.rerun()
    removed = site.store.withdrawals()
    if len(removed):
        st.caption(f"{len(removed)} withdrew consent; {int(removed['votes_removed'].sum())} votes were removed.")


def _show_disagreements(site: Site, votes: pd.DataFrame, name: str) -> None:
    open_now = disagreements(votes, read_verdicts(site.store, "adjudication"))
    st.dataframe(open_now, hide_index=True, width="stretch")
    comparison = st.selectbox("Settle", list(dict.fromkeys(open_now["comparison_id"])), index=None, key="settle")
    if comparison:
        _decide(
            site, comparison, name, "adjudication", list(open_now[open_now["comparison_id"] == comparison]["criterion"])
        )


def _show_gold(site: Site, name: str) -> None:
    rows = site.comparisons.rows
    gold = rows[rows["purpose"] == "gold"]["comparison_id"] if "purpose" in rows else pd.Series(dtype=str)
    known = read_verdicts(site.store, "gold")
    st.caption(f"{len(gold)} gold questions, {known['comparison_id'].nunique()} with an answer; only those are asked.")
    st.dataframe(known, hide_index=True, width="stretch")
    comparison = st.selectbox("Give the right answer", list(gold), index=None, key="gold")
    if comparison:
        _decide(site, comparison, name, "gold", [criterion.id for criterion in site.settings.criteria])


def _decide(site: Site, comparison: str, name: str, kind: str, criteria: list[str]) -> None:
    sides = site.comparisons.sides(comparison)
    if sides is None:
        st.error("This comparison cannot be shown.")
        return
    for column, side, candidate in zip(st.columns(2), "ab", sides, strict=True):
        column.text(f"Clip {side}")
        address = site.signer.sign_path(f"{PREFIX}/clips/{candidate}").replace("&", "&amp;")
        column.html(f'<video src="{address}" controls loop style="width:100%;border-radius:12px"></video>')
    with st.form(f"decide-{kind}"):
        choices = {criterion: st.radio(criterion, ANSWERS, index=None, horizontal=True) for criterion in criteria}
        note = st.text_input("Why")
        given = {criterion: choice for criterion, choice in choices.items() if choice}
        if st.form_submit_button("Decide", type="primary") and given:
            decide(site.store, comparison, given, kind=kind, by=name, note=note or None)
            st.rerun()


def _show_access(site: Site) -> None:
    table = st.container()  # filled last, so that who is invited now is in it
    with st.form("invite", clear_on_submit=True):
        st.subheader("Invite")
        who = st.text_input("Pseudonym (empty: a random one)", max_chars=40)
        contact = st.text_input("E-mail address, only for sign-in by OpenID Connect")
        role = st.radio("Role", ["annotator", "lead"], horizontal=True)
        if st.form_submit_button("Make a personal link"):
            try:
                invited, secret = invite(site.store, who.strip() or None, role=role, contact=contact.strip() or None)
            except PrefkitError as error:
                st.error(str(error))
            else:
                st.success(f"{invited}'s link, shown this once:")
                st.code(f"{st.context.url.split('?')[0].rstrip('/')}{PREFIX}/enter/{secret}", language=None)
    accounts = list_accounts(site.store)
    table.dataframe(accounts, hide_index=True, width="stretch")
    active = accounts[accounts["revoked_at"].isna()]["annotator"]
    ended = st.selectbox("Revoke access of", list(active), index=None)
    if ended and st.button("Revoke"):
        revoke(site.store, ended)
        st.rerun()
