"""What the page fetches and posts: the next comparison, clips, ballots.

These are plain routes beside Streamlit's own. A clip is addressed by the id of its candidate, never by a
path, and is served from disk with Range requests. A ballot is answered when its votes are committed.
"""

import io
import json
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from annotation_ui.ballot import check_pseudonym, parse_ballot
from prefkit.errors import PrefkitError
from prefkit.media import NoSoundError, read_audio
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS
from prefkit.votes.queue import Assignment, NotLeased, Queue
from prefkit.votes.store import VoteConflict, VoteStore
from prefkit.workspace import Workspace

PREFIX = "/prefkit"
_MAX_BODY = 64 * 1024
_SOUND_RATE = 48_000
# Ids are content hashes: what the browser has once, it may keep.
_KEEP = {"Cache-Control": "private, max-age=86400"}
_NO_CLIP = JSONResponse({"error": "there is no such clip, or it has no sound"}, status_code=404)


class Comparisons:
    """The comparisons of a workspace that can be shown, with their clips.

    Raises:
        PrefkitError: there are none.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        candidates = workspace.read(CANDIDATES)
        candidates = candidates[candidates["clip"].notna()]
        self._clips: dict[str, str] = dict(zip(candidates["candidate_id"], candidates["clip"], strict=True))
        self._fps: dict[str, float] = dict(zip(candidates["candidate_id"], candidates["fps"], strict=True))
        rows = workspace.read(COMPARISONS)
        self.rows = rows[rows["candidate_a"].isin(self._clips) & rows["candidate_b"].isin(self._clips)]
        if self.rows.empty:
            raise PrefkitError(f"{workspace.root} has nothing to annotate; make comparisons with 'prefkit compare'")
        self._by_id = self.rows.set_index("comparison_id")
        conditions = workspace.read(CONDITIONS)
        self._synthetic = set(conditions.loc[conditions["truth"].notna(), "condition_id"])

    def describe(self, assignment: Assignment) -> dict[str, Any]:
        """What the page needs to show a comparison; nothing tells which model made a clip."""
        row = self._by_id.loc[assignment.comparison_id]
        shown = ("candidate_a", "candidate_b") if assignment.left == "a" else ("candidate_b", "candidate_a")
        left, right = (str(row[side]) for side in shown)
        return {
            "comparison_id": assignment.comparison_id,
            "left": assignment.left,
            "clips": {"left": f"{PREFIX}/clips/{left}", "right": f"{PREFIX}/clips/{right}"},
            "sounds": {"left": f"{PREFIX}/sounds/{left}", "right": f"{PREFIX}/sounds/{right}"},
            "fps": self._fps[left],
            "synthetic": row["condition_id"] in self._synthetic,
        }

    def clip(self, candidate_id: str) -> Path | None:
        """The clip's file, or None where there is no such candidate."""
        path = self._clips.get(candidate_id)
        file = self.workspace.path(path) if path is not None else None
        return file if file is not None and file.is_file() else None


def make_routes(comparisons: Comparisons, store: VoteStore) -> list[Route]:
    """Builds the routes for one workspace's comparisons and its vote store."""
    queue = Queue(store, comparisons.rows)

    def next_task(annotator: str) -> dict[str, Any]:
        leased = queue.lease(annotator)
        progress = queue.progress(annotator)
        return {
            "task": comparisons.describe(leased[0]) if leased else None,
            "progress": {"done": progress.done, "total": progress.total},
            "previous": queue.previous(annotator),
        }

    def vote(body: Any) -> dict[str, Any]:
        ballot = parse_ballot(body)
        queue.answer(ballot.annotator, ballot.rows)
        return {"saved": [row["vote_id"] for row in ballot.rows]} | next_task(ballot.annotator)

    def undo(body: Any) -> dict[str, Any]:
        annotator = check_pseudonym(body.get("annotator"))
        queue.undo(annotator, str(body.get("comparison_id")))
        return next_task(annotator)

    async def get_task(request: Request) -> Response:
        annotator = request.query_params.get("annotator")
        return await _answer(lambda: next_task(check_pseudonym(annotator)))

    async def get_clip(request: Request) -> Response:
        file = comparisons.clip(request.path_params["candidate_id"])
        return FileResponse(file, media_type="video/mp4", headers=_KEEP) if file else _NO_CLIP

    async def get_sound(request: Request) -> Response:
        file = comparisons.clip(request.path_params["candidate_id"])
        sound = await run_in_threadpool(_sound, file) if file else None
        return Response(sound, media_type="audio/wav", headers=_KEEP) if sound else _NO_CLIP

    return [
        Route(f"{PREFIX}/task", get_task, methods=["GET"]),
        Route(f"{PREFIX}/votes", _posted(vote), methods=["POST"]),
        Route(f"{PREFIX}/undo", _posted(undo), methods=["POST"]),
        Route(f"{PREFIX}/clips/{{candidate_id}}", get_clip, methods=["GET"]),
        Route(f"{PREFIX}/sounds/{{candidate_id}}", get_sound, methods=["GET"]),
    ]


def _sound(file: Path) -> bytes | None:
    """The clip's sound as a WAV file that begins with the first frame, or None where there is none.

    Browsers disagree on where the sound of a video file begins; a WAV file leaves no doubt.
    """
    try:
        samples = read_audio(file, _SOUND_RATE)
    except NoSoundError:
        return None
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(_SOUND_RATE)
        writer.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _posted(handle: Callable[[Any], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        # Only a script of our own page can post this type: other sites would need a permission we never give.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "expected application/json"}, status_code=415)
        raw, length = b"", 0
        async for chunk in request.stream():  # to its end, so that the sender gets to hear the answer
            length += len(chunk)
            raw = raw + chunk if length <= _MAX_BODY else b""
        if length > _MAX_BODY:
            return JSONResponse({"error": f"the message is longer than {_MAX_BODY} bytes"}, status_code=413)
        try:
            body = json.loads(raw)
        except ValueError:
            return JSONResponse({"error": "the message is no JSON"}, status_code=400)
        if not isinstance(body, dict):
            return JSONResponse({"error": "the message is no JSON object"}, status_code=400)
        return await _answer(lambda: handle(body))

    return endpoint


async def _answer(work: Callable[[], dict[str, Any]]) -> Response:
    """Runs `work` (it waits for the disk) beside the event loop; a user's mistake becomes one sentence."""
    try:
        return JSONResponse(await run_in_threadpool(work), headers={"Cache-Control": "no-store"})
    except (NotLeased, VoteConflict) as error:
        return JSONResponse({"error": str(error)}, status_code=409)
    except PrefkitError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
