"""Files of a folder over HTTP, whole or broken off."""

from __future__ import annotations

import functools
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Quiet(SimpleHTTPRequestHandler):
    """Sends files, and says nothing of it."""

    def log_message(self, *_):
        pass


class Short(Quiet):
    """Promises more than it sends."""

    def send_header(self, keyword, value):
        super().send_header(keyword, "99000000" if keyword == "Content-Length" else value)


@contextmanager
def serving_files(handler, folder):
    """A server on a free port: its URL."""
    served = functools.partial(handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
