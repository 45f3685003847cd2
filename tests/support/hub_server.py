"""What the Hugging Face hub answers, as far as a small model's folder needs it: in memory, here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"


def _hash(data):
    return hashlib.sha1(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value, status=200):
        self._send(status, json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        if self.headers.get("Authorization") != "Bearer hf_secret":
            self._json({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            name = json.loads(body)
            repo = f"{name['organization']}/{name['name']}"
            self.server.repos.setdefault(repo, {})
            self._json({"url": f"{self.server.url}/{repo}", "name": repo})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            kinds = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._json({"files": [{"path": one["path"], **kinds} for one in files]})
        else:
            repo = re.fullmatch(r"/api/models/(.*)/commit/main", self.path)[1]
            for line in body.decode().splitlines():
                found = json.loads(line)
                if found["key"] == "file":
                    file = found["value"]
                    self.server.repos[repo][file["path"]] = base64.b64decode(file["content"])
            self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{SHA}", "commitOid": SHA})

    def do_GET(self):
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/?]+)?(\?.*)?", self.path):
            files = self.server.repos.get(match[1])
            if files is None:
                self._send(404, b"{}", X_Error_Code="RepoNotFound")
                return
            siblings = [{"rfilename": name} for name in files]
            self._json({"id": match[1], "sha": SHA, "private": False, "siblings": siblings})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/.*", self.path):
            files = self.server.repos[match[1]]
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": _hash(data)}
                    for name, data in files.items()
                ]
            )
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            data = self.server.repos[match[1]][match[2]]
            self._send(200, data, ETag=f'"{_hash(data)}"', X_Repo_Commit=SHA)
        else:
            self._send(404)

    do_HEAD = do_GET


@contextmanager
def hub_server():
    """The server: its `url`, `repos` (name to files) and `asked` (paths that were posted to)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.repos, server.asked = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
