"""Coming in: a personal link, or name and password, becomes a cookie that the page reads.

The routes themselves take no cookie but the session token that the page hands its script, so no other
site can act in somebody's name.
"""

import html
import urllib.parse
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from annotation_ui.clips import PREFIX
from annotation_ui.site import SESSION_SECONDS, NotAllowed, Site
from prefkit.errors import PrefkitError

COOKIE = "prefkit_session"
_MAX_BODY = 10_000

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>prefkit – sign in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ display: grid; place-content: center; min-height: 90vh; margin: 0; color: #1c2530; background: #f4f6f8;
  font: 16px/1.5 "Source Sans", system-ui, sans-serif; }}
form {{ display: grid; gap: 14px; width: min(340px, 86vw); padding: 28px 32px; border-radius: 14px; background: #fff;
  box-shadow: 0 1px 3px #0002; }}
h1 {{ margin: 0; font-size: 22px; }} label {{ display: grid; gap: 4px; color: #53606c; font-size: 14px; }}
input {{ padding: 9px 11px; border: 1px solid #c9d1d8; border-radius: 8px; font: inherit; }}
button {{ padding: 10px; border: 0; border-radius: 8px; color: #fff; background: #2f6f8f; font: inherit; }}
:focus-visible {{ outline: 3px solid #2f6f8f; outline-offset: 2px; }} p {{ margin: 0; }}
[role=alert] {{ color: #b3362b; }}
</style></head><body><form method="post" action="{prefix}/login"><h1>Compare clips</h1>{said}
<label>Annotator name <input name="name" autocomplete="username" maxlength="40" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" maxlength="200" required></label>
<button>Sign in</button><p>You have a personal link? Open it instead.</p></form></body></html>"""


def access_routes(site: Site) -> list[Route]:
    """The routes by which annotators come in and leave."""

    async def enter(request: Request) -> Response:
        link = request.path_params["link"]
        return await signed_in(request, {"link": link})

    async def login(request: Request) -> Response:
        if request.method == "GET":
            return _login_page("", 200)
        body = await request.body()
        if len(body) > _MAX_BODY:
            return _login_page("That is too long.", 413)
        form = dict(urllib.parse.parse_qsl(body.decode(errors="replace")))
        name, password = form.get("name", ""), form.get("password", "")
        return await signed_in(request, {"name": name, "password": password})

    async def leave(_request: Request) -> Response:
        answer = RedirectResponse(f"{PREFIX}/login", status_code=303)
        answer.delete_cookie(COOKIE)
        return answer

    async def session(request: Request) -> Response:
        """For scripts: a session token for `{"name"}`, `{"link"}` or `{"name", "password"}`."""
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "expected application/json"}, status_code=415)
        raw = await request.body()
        try:
            body: Any = await request.json() if len(raw) <= _MAX_BODY else None
            known = {k: v for k, v in body.items() if k in {"name", "link", "password"} and isinstance(v, str)}
        except (ValueError, AttributeError):
            return JSONResponse({"error": "the message is no JSON object"}, status_code=400)
        try:
            account = await run_in_threadpool(lambda: site.sign_in(**known))
        except NotAllowed as error:
            return JSONResponse({"error": str(error)}, status_code=403)
        except PrefkitError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"session": site.session(account), "annotator": account.annotator, "role": account.role})

    async def signed_in(request: Request, how: dict[str, str]) -> Response:
        try:
            account = await run_in_threadpool(lambda: site.sign_in(**how))
        except PrefkitError as error:
            return _login_page(str(error), 403)
        answer = RedirectResponse("/", status_code=303, headers={"Referrer-Policy": "no-referrer"})
        answer.set_cookie(
            COOKIE, site.session(account), max_age=SESSION_SECONDS, httponly=True, samesite="lax",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    return [
        Route(f"{PREFIX}/enter/{{link}}", enter, methods=["GET"]),
        Route(f"{PREFIX}/login", login, methods=["GET", "POST"]),
        Route(f"{PREFIX}/leave", leave, methods=["GET"]),
        Route(f"{PREFIX}/session", session, methods=["POST"]),
    ]


def _login_page(said: str, status: int) -> Response:
    alert = f'<p role="alert">{html.escape(said)}</p>' if said else ""
    return HTMLResponse(_PAGE.format(prefix=PREFIX, said=alert), status_code=status)
