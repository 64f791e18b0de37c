"""Answers: annotate, votes, label-studio."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid

from prefkit.cli.options import Seed, WorkspacePath
from prefkit.cli.printing import console, print_summary
from prefkit.errors import PrefkitError

if TYPE_CHECKING:
    import pandas as pd

    from prefkit.votes.store import VoteStore


def annotate(
    workspace: WorkspacePath,
    port: Annotated[int, typer.Option(help="The port of the page.")] = 8501,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    open_to_all: Annotated[
        bool | None,
        typer.Option(help="Anybody may vote under any name; else by invitation. Default: only on 127.0.0.1."),
    ] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulated annotators vote instead of people.")] = False,
    annotators: Annotated[int, typer.Option(help="With --simulate: how many.")] = 5,
    error_rate: Annotated[float, typer.Option(help="With --simulate: how often they pick the worse clip.")] = 0.1,
    left_bias: Annotated[
        float, typer.Option(help="With --simulate: how often they pick the left clip blindly.")
    ] = 0.05,
    seed: Seed = 0,
) -> None:
    """Open the annotation page in the browser, or let simulated annotators vote."""
    if not simulate:
        from annotation_ui.server import serve

        serve(workspace, host=host, port=port, open_browser=True, open_to_all=open_to_all)
        return
    from prefkit.synthetic.judge import TIE_MARGIN, make_judge
    from prefkit.votes.simulated import simulate_votes
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    done = simulate_votes(
        opened, make_judge(opened), annotators=annotators, error_rate=error_rate, left_bias=left_bias,
        tie_margin=TIE_MARGIN, seed=seed,
    )  # fmt: skip
    print_summary("simulated votes", vars(done))


votes_app = typer.Typer(help="Votes and annotators: what a lead looks at and decides.", no_args_is_help=True,
                        rich_markup_mode=None)  # fmt: skip
Annotator = Annotated[str, typer.Argument(help="The annotator's pseudonym.")]
By = Annotated[str, typer.Option("--by", help="Who decides; goes on record.")]


def _store(workspace: Path, *, create: bool = False) -> "VoteStore":
    from prefkit.votes.store import VoteStore
    from prefkit.workspace import Workspace

    return VoteStore.in_workspace(Workspace.open(workspace), create=create)


def _print_table(rows: "pd.DataFrame") -> None:
    grid = Grid(*rows.columns, box=None, pad_edge=False)
    for row in rows.itertuples(index=False):
        grid.add_row(*("–" if value is None or value != value else f"{value:.2f}" if isinstance(value, float)
                       else str(value) for value in row))  # fmt: skip
    console.print(grid)


@votes_app.command("stats")
def votes_stats(workspace: WorkspacePath) -> None:
    """Progress, agreement with intervals, and per annotator: speed, gold, self-consistency, left bias, haste."""
    from prefkit.votes.progress import clip_seconds, progress
    from prefkit.votes.quality import agreements, per_annotator
    from prefkit.votes.verdicts import read_verdicts
    from prefkit.workspace import Workspace

    store = _store(workspace)
    votes = store.cast_votes()
    if votes.empty:
        raise PrefkitError(f"{workspace} has no votes yet; vote with 'prefkit annotate {workspace}'")
    opened = Workspace.open(workspace)
    for purpose, found in progress(store).items():
        console.print(f"{purpose}: {found.done} of {found.total} comparisons answered", highlight=False)
    for one in agreements(votes):
        shown = "–" if one.alpha is None else f"{one.alpha:.2f} [{one.low:.2f}, {one.high:.2f}]"
        console.print(f"{one.criterion}: alpha {shown} on {one.questions} questions", highlight=False, markup=False)
    _print_table(per_annotator(votes, read_verdicts(store, "gold"), clip_seconds=clip_seconds(opened)))


@votes_app.command("export")
def votes_export(
    workspace: WorkspacePath,
    output: Annotated[Path, typer.Argument(help="A .parquet or .csv file.")],
    history: Annotated[bool, typer.Option("--history", help="Undone and replaced votes too.")] = False,
) -> None:
    """Write the votes that count to one file."""
    from prefkit.votes.export import export_votes
    from prefkit.workspace import Workspace

    count = export_votes(Workspace.open(workspace), output, history=history)
    console.print(f"{count} votes: {output}", highlight=False, soft_wrap=True)


@votes_app.command("import")
def votes_import(workspace: WorkspacePath, source: Annotated[Path, typer.Argument(help="A .parquet file.")]) -> None:
    """Take over votes that 'votes export' wrote; those that are here already are left alone."""
    from prefkit.votes.export import import_votes
    from prefkit.workspace import Workspace

    console.print(f"{import_votes(Workspace.open(workspace), source)} new votes", highlight=False)


@votes_app.command("invite")
def votes_invite(
    workspace: WorkspacePath,
    annotator: Annotated[str | None, typer.Argument(help="A pseudonym; left out: a random one.")] = None,
    lead: Annotated[bool, typer.Option("--lead", help="May see the lead's page and decide.")] = False,
    contact: Annotated[str | None, typer.Option(help="An e-mail address, for sign-in by OpenID Connect.")] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a password, for sign-in by name.")] = False,
    url: Annotated[
        str, typer.Option(help="The page's address, as the annotator reaches it.")
    ] = "http://localhost:8501",
) -> None:
    """Let somebody in and print their personal link; an older one ends."""
    from prefkit.votes.accounts import invite

    secret = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if password else None
    store = _store(workspace, create=True)
    name, link = invite(store, annotator, role="lead" if lead else "annotator", contact=contact, password=secret)
    console.print(f"{name}: {url.rstrip('/')}/prefkit/enter/{link}", highlight=False, soft_wrap=True, markup=False)


@votes_app.command("revoke")
def votes_revoke(workspace: WorkspacePath, annotator: Annotator) -> None:
    """Keep somebody out from now on; their votes stay."""
    from prefkit.votes.accounts import revoke

    revoke(_store(workspace), annotator)


@votes_app.command("accounts")
def votes_accounts(workspace: WorkspacePath) -> None:
    """List who may come in."""
    from prefkit.votes.accounts import list_accounts

    _print_table(list_accounts(_store(workspace)))


@votes_app.command("exclude")
def votes_exclude(
    workspace: WorkspacePath,
    annotator: Annotator,
    reason: Annotated[str, typer.Option(help="Why; goes on record.")],
    by: By = "lead",
) -> None:
    """Leave an annotator's votes out; what that leaves short is asked again."""
    _store(workspace).exclude(annotator, reason, by=by)


@votes_app.command("readmit")
def votes_readmit(workspace: WorkspacePath, annotator: Annotator) -> None:
    """Take an exclusion back; it stays on record."""
    _store(workspace).readmit(annotator)


@votes_app.command("withdraw")
def votes_withdraw(workspace: WorkspacePath, annotator: Annotator) -> None:
    """Remove all votes of a person who no longer consents, for good, and their account."""
    removed = _store(workspace).withdraw(annotator)
    console.print(f"{removed} votes removed; later exports and cards say that somebody withdrew", highlight=False)


@votes_app.command("decide")
def votes_decide(
    workspace: WorkspacePath,
    comparison: Annotated[str, typer.Argument(help="The comparison's id.")],
    answers: Annotated[list[str], typer.Argument(help="CRITERION=a, b, tie or both_bad.")],
    gold: Annotated[bool, typer.Option("--gold", help="The right answer to a gold question.")] = False,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    by: By = "lead",
) -> None:
    """Settle a disagreement, or give a gold question its answer."""
    from prefkit.tables import COMPARISONS
    from prefkit.votes.verdicts import decide
    from prefkit.workspace import Workspace

    if comparison not in {row["comparison_id"] for row in Workspace.open(workspace).rows(COMPARISONS)}:
        raise PrefkitError(f"{workspace} has no comparison {comparison!r}; 'prefkit votes stats' counts them")
    wrong = [answer for answer in answers if "=" not in answer]
    if wrong:
        raise PrefkitError(f"got {wrong[0]!r}; expected CRITERION=ANSWER, as in overall=a")
    choices = dict(answer.split("=", 1) for answer in answers)
    decide(
        _store(workspace, create=True), comparison, choices, kind="gold" if gold else "adjudication", by=by, note=note
    )


@votes_app.command("prioritise")
def votes_prioritise(
    workspace: WorkspacePath,
    comparisons: Annotated[list[str], typer.Argument(help="Ids of comparisons.")],
    priority: Annotated[int, typer.Option(help="Higher comes first; 0 is usual.")] = 1,
) -> None:
    """Ask some comparisons before the others."""
    from prefkit.tables import COMPARISONS
    from prefkit.votes.progress import prioritise
    from prefkit.workspace import Workspace

    known = Workspace.open(workspace).read(COMPARISONS)
    prioritise(_store(workspace, create=True), known, comparisons, priority)


@votes_app.command("hours")
def votes_hours(workspace: WorkspacePath, output: Annotated[Path, typer.Argument(help="A .csv file.")]) -> None:
    """Write hours and ballots per annotator, for pay."""
    from prefkit.votes.progress import hours
    from prefkit.workspace import atomic_write

    found = hours(_store(workspace))
    with atomic_write(output) as temporary:
        found.to_csv(temporary, index=False)
    console.print(f"{len(found)} annotators: {output}", highlight=False, soft_wrap=True)


label_studio_app = typer.Typer(help="Ask in Label Studio instead.", no_args_is_help=True, rich_markup_mode=None)
Url = Annotated[str, typer.Option(help="The server's address.")]
Token = Annotated[str, typer.Option(envvar="LABEL_STUDIO_API_KEY", help="A user's legacy API token.")]
Root = Annotated[Path | None, typer.Option(help="The server's local-files document root; default: the workspace.")]
Title = Annotated[str, typer.Option(help="Of a new project.")]
Webhook = Annotated[
    str | None,
    typer.Option(help="An address that the server calls at every answer; give it once."),
]


@label_studio_app.command("push")
def label_studio_push(
    workspace: WorkspacePath,
    token: Token,
    url: Url = "http://localhost:8080",
    document_root: Root = None,
    title: Title = "prefkit",
    webhook: Webhook = None,
    seed: Seed = 0,
) -> None:
    """Make a project with one task a comparison and the questions of annotation.toml; later only what is new."""
    from annotation_ui.guidelines import read_guidelines
    from prefkit.votes.label_studio.client import LabelStudio
    from prefkit.votes.label_studio.sync import push
    from prefkit.workspace import Workspace

    opened, client = Workspace.open(workspace), LabelStudio(url, token)
    done = push(
        opened, client, title=title, document_root=document_root, criteria=_criteria(opened.root),
        guidelines_version=read_guidelines().version, seed=seed,
    )  # fmt: skip
    if webhook:
        client.add_webhook(done.project, webhook)
    print_summary("label-studio", vars(done))


@label_studio_app.command("pull")
def label_studio_pull(workspace: WorkspacePath, token: Token, url: Url = "http://localhost:8080") -> None:
    """Bring the project's votes home; those that are here already are left alone."""
    from prefkit.votes.label_studio.client import LabelStudio
    from prefkit.votes.label_studio.sync import pull
    from prefkit.workspace import Workspace

    opened, client = Workspace.open(workspace), LabelStudio(url, token)
    print_summary(
        "label-studio", vars(pull(opened, _store(workspace, create=True), client, criteria=_criteria(opened.root)))
    )


@label_studio_app.command("sync")
def label_studio_sync(
    workspace: WorkspacePath,
    token: Token,
    url: Url = "http://localhost:8080",
    document_root: Root = None,
    title: Title = "prefkit",
    seed: Seed = 0,
) -> None:
    """Push what is new, then pull."""
    label_studio_push(workspace, token, url, document_root, title, None, seed)
    label_studio_pull(workspace, token, url)


def _criteria(folder: Path) -> list[str]:
    from annotation_ui.settings import read_settings

    return [criterion.id for criterion in read_settings(folder).criteria]
