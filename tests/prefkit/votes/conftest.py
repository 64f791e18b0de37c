"""A private PostgreSQL, and a private Label Studio, each where its programs are installed."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

TOKEN = "0123456789abcdef0123456789abcdef01234567"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def postgres_program(name):
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(installed[-1]) if installed else None)
    if found is None:
        pytest.skip("there is no PostgreSQL; get it with 'apt-get install postgresql'")
    return found


@pytest.fixture(scope="session")
def postgres():
    """The URL of an empty database, in a cluster of its own that ends with the tests."""
    initdb, pg_ctl = postgres_program("initdb"), postgres_program("pg_ctl")
    # Not under pytest's folder: that is closed to other users, and PostgreSQL runs as one.
    folder = Path(tempfile.mkdtemp(prefix="prefkit-postgres-"))
    as_user = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, port = folder / "data", free_port()

    def run(*command):
        with (folder / "log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder, **as_user)

    (folder / "log").touch()
    run(initdb, "-D", data, "-U", "tester", "--auth=trust", "-E", "UTF8", "--locale=C")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=120"
    run(pg_ctl, "-D", data, "-w", "-l", folder / "server.log", "-o", options, "start")
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def empty_postgres(postgres):
    """The database, with nothing in it."""
    import sqlalchemy as sa

    engine = sa.create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres


@contextlib.contextmanager
def running_label_studio(program, folder, document_root):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(document_root),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    command = [program, "start", "-b", "--data-dir", folder, "--port", str(port), "--username", "ann@example.org",
               "--password", "long-enough-1", "--user-token", TOKEN, "--enable-legacy-api-token"]  # fmt: skip
    log = (folder / "log").open("wb")
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(1)
        yield url
    finally:
        server.terminate()
        server.wait(60)
        log.close()


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory):
    """(URL, token, document root) of a real Label Studio server."""
    program = os.environ.get("PREFKIT_LABEL_STUDIO") or shutil.which("label-studio")
    if program is None:
        pytest.skip(
            "there is no Label Studio; install it into an environment of its own (python -m venv E; "
            "E/bin/pip install label-studio) and set PREFKIT_LABEL_STUDIO=E/bin/label-studio"
        )
    root = tmp_path_factory.mktemp("label-studio-files")
    with running_label_studio(program, tmp_path_factory.mktemp("label-studio"), root) as url:
        yield url, TOKEN, root
