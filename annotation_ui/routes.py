"""What the page fetches and posts: the next comparisons, clips, ballots.

These are plain routes beside Streamlit's own. A clip is addressed by the id of its candidate, never by a
path, under a signature that expires, and is served from disk with Range requests. A ballot is answered
when its votes are committed.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from annotation_ui.access import access_routes
from annotation_ui.ballot import parse_ballot
from annotation_ui.clips import PREFIX
from annotation_ui.site import NotAllowed, Site
from prefkit.errors import PrefkitError
from prefkit.votes.queue import NotLeased
from prefkit.votes.sound_check import has_heard, pass_sound_check
from prefkit.votes.store import VoteConflict

_MAX_BODY = 64 * 1024
_AHEAD = 2  # the pair on the screen, and the one that the browser loads meanwhile
# Ids are content hashes: what the browser has once, it may keep.
_KEEP = {"Cache-Control": "private, max-age=86400"}
_NO_CLIP = JSONResponse({"error": "there is no such clip, or it has no sound"}, status_code=404)
_NOT_SIGNED = JSONResponse({"error": "this address is altered or has expired; reload the page"}, status_code=403)

Handler = Callable[[str, dict[str, Any]], dict[str, Any]]


def make_routes(site: Site) -> list[Route]:
    """Builds the routes of one site."""
    store, queue, settings = site.store, site.queue, site.settings
    criteria = [criterion.id for criterion in settings.criteria]

    def tasks(annotator: str, _body: Any = None) -> dict[str, Any]:
        if settings.sound_check and not has_heard(store, annotator):
            return {"sound_check": True, "tasks": [], "progress": {"done": 0, "total": 0}, "previous": None}
        leased = queue.lease(annotator, _AHEAD)
        progress = queue.progress(annotator)
        return {
            "tasks": [site.comparisons.describe(one, site.signer) for one in leased],
            "progress": {"done": progress.done, "total": progress.total},
            "previous": queue.previous(annotator),
        }

    def vote(annotator: str, body: dict[str, Any]) -> dict[str, Any]:
        ballot = parse_ballot(body, annotator, criteria)
        queue.answer(annotator, ballot.rows)
        # what comes next is asked for apart: nobody waits for it to hear that a vote is kept
        return {"saved": [row["vote_id"] for row in ballot.rows]}

    def undo(annotator: str, body: dict[str, Any]) -> dict[str, Any]:
        queue.undo(annotator, str(body.get("comparison_id")))
        return tasks(annotator)

    def sound_check(annotator: str, body: dict[str, Any]) -> dict[str, Any]:
        pass_sound_check(store, annotator, body)
        return tasks(annotator)

    async def get_task(request: Request) -> Response:
        return await _answer(lambda: tasks(_annotator(site, request)))

    async def get_clip(request: Request) -> Response:
        return await _file(request, lambda: site.comparisons.clip(request.path_params["name"]))

    async def get_skeleton(request: Request) -> Response:
        return await _file(request, lambda: site.comparisons.skeleton(request.path_params["name"]))

    async def get_sound(request: Request) -> Response:
        if not _is_signed(site, request):
            return _NOT_SIGNED
        sound = await run_in_threadpool(site.comparisons.sound, request.path_params["name"])
        return Response(sound, media_type="audio/wav", headers=_KEEP) if sound else _NO_CLIP

    async def _file(request: Request, find: Callable[[], Path | None]) -> Response:
        if not _is_signed(site, request):
            return _NOT_SIGNED
        file = await run_in_threadpool(find)
        return FileResponse(file, media_type="video/mp4", headers=_KEEP) if file else _NO_CLIP

    return [
        *access_routes(site),
        Route(f"{PREFIX}/task", get_task, methods=["GET"]),
        Route(f"{PREFIX}/votes", _posted(site, vote), methods=["POST"]),
        Route(f"{PREFIX}/undo", _posted(site, undo), methods=["POST"]),
        Route(f"{PREFIX}/sound-check", _posted(site, sound_check), methods=["POST"]),
        Route(f"{PREFIX}/clips/{{name}}", get_clip, methods=["GET"]),
        Route(f"{PREFIX}/sounds/{{name}}", get_sound, methods=["GET"]),
        Route(f"{PREFIX}/skeletons/{{name}}", get_skeleton, methods=["GET"]),
    ]


def _annotator(site: Site, request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return site.account(token if scheme == "Bearer" else None).annotator


def _is_signed(site: Site, request: Request) -> bool:
    query = request.query_params
    expires = query.get("expires", "")
    return expires.isascii() and site.signer.path_is_signed(request.url.path, expires, query.get("signature", ""))


def _posted(site: Site, handle: Handler) -> Callable[[Request], Awaitable[Response]]:
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
        return await _answer(lambda: handle(_annotator(site, request), body))

    return endpoint


async def _answer(work: Callable[[], dict[str, Any]]) -> Response:
    """Runs `work` (it waits for the disk) beside the event loop; a user's mistake becomes one sentence."""
    try:
        return JSONResponse(await run_in_threadpool(work), headers={"Cache-Control": "no-store"})
    except NotAllowed as error:
        return JSONResponse({"error": str(error)}, status_code=401)
    except (NotLeased, VoteConflict) as error:
        return JSONResponse({"error": str(error)}, status_code=409)
    except PrefkitError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
