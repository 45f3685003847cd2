"""Files of a folder over HTTP, whole or broken off."""

from __future__ import annotations

import functools
import socket
import struct
import threading
import time
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


class Breaking(Quiet):
    """Sends a stream without an end that is known, and breaks it off, as often as it has pieces.

    The pieces are the class's `pieces`; after the last the stream is not there any more.
    """

    pieces: list = []

    def do_GET(self):
        if not self.pieces:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.pieces.pop(0))
        self.wfile.flush()
        # What was sent arrives; then the connection is reset instead of closed.
        time.sleep(0.5)
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def finish(self):
        pass
