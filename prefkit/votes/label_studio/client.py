"""The few calls of Label Studio's HTTP interface that are needed (its open-source server, 1.23)."""

import json
import urllib.error
import urllib.request
from typing import Any

from prefkit.errors import PrefkitError

_SECONDS = 120


class LabelStudio:
    """A Label Studio server.

    Args:
        url: its address, e.g. http://localhost:8080.
        token: a legacy API token of a user; these are off by default, see `--enable-legacy-api-token`.
    """

    def __init__(self, url: str, token: str):
        self.url = url.rstrip("/")
        self._token = token

    def create_project(self, title: str, config: str, overlap: int) -> int:
        """Makes a project in which `overlap` annotators answer each task; returns its id."""
        body = {"title": title, "label_config": config, "maximum_annotations": overlap, "show_skip_button": True}
        return int(self._ask("POST", "/api/projects", body)["id"])

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> None:
        """Adds tasks `{"data": …}` to a project."""
        self._ask("POST", f"/api/projects/{project}/import", tasks)

    def serve_folder(self, project: int, folder: str) -> None:
        """Lets a project's tasks show files of a folder on the server's disk."""
        body = {"project": project, "path": folder, "title": "prefkit clips", "use_blob_urls": True}
        self._ask("POST", "/api/storages/localfiles", body)

    def export(self, project: int) -> list[dict[str, Any]]:
        """All tasks of a project with their annotations."""
        return self._ask("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")

    def add_webhook(self, project: int, url: str) -> None:
        """Has the server call `url` at every annotation; it waits a second at most for the answer."""
        self._ask("POST", "/api/webhooks/", {"project": project, "url": url, "send_payload": False})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Token {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
            if error.code in (401, 403):
                said = "the token is not accepted; legacy tokens have to be enabled"
            raise PrefkitError(f"Label Studio at {self.url} answered {error.code} to {method} {path}: {said}") from None
        except OSError as error:
            raise PrefkitError(f"cannot reach Label Studio at {self.url} ({error}); check --url") from None
