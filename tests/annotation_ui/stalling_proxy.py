"""A TCP proxy between browser and server that holds back the rest of one download until it is released."""

import contextlib
import socket
import threading


class StallingProxy:
    """Forwards everything, WebSockets too, to a port of this machine; use it as a context manager.

    Args:
        upstream: the server's port.
        path: what the address in the request line of the download begins with.
        let_through: bytes of it that pass, over all its requests; the rest waits for `release`.
    """

    def __init__(self, upstream, path, let_through):
        self._upstream = upstream
        self._request = f"GET {path}".encode()
        self._left = let_through
        self._released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.holding = threading.Event()  # set when bytes are held back
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.release()
        self._listener.close()

    def release(self):
        """Lets what is held, and all that comes, through."""
        self._released.set()

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client):
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as server:
            # A browser sends a request when the answer to the one before is complete, so the answer that
            # comes next on a connection belongs to the request that came last.
            asked_for_it = threading.Event()
            threading.Thread(target=self._upwards, args=(client, server, asked_for_it), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := server.recv(65536):
                    self._downwards(client, data, asked_for_it.is_set())
            # Whichever side ends it, the other thread's `recv` returns.
            for side in (client, server):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _upwards(self, client, server, asked_for_it):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if data.startswith(b"GET "):
                    (asked_for_it.set if data.startswith(self._request) else asked_for_it.clear)()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _downwards(self, client, data, may_be_held):
        if may_be_held and not self._released.is_set():
            passing, data = data[: self._left], data[self._left :]
            self._left -= len(passing)
            client.sendall(passing)
            if data:
                self.holding.set()
                self._released.wait()
        client.sendall(data)
