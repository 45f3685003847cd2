"""A small client of the service: JSON over one kept connection, and patience when it is gone."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from contentctr.errors import InputError

RETRY_S = 1.0
TIMEOUT_S = 30.0
BUSY = (429, 503)


class Client:
    """For one thread.

    Args:
        url: of the service, such as http://127.0.0.1:8000.
        api_key: its key, if it asks for one.

    Raises:
        InputError: `url` is none of http or https.
    """

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        parts = urlsplit(url)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        if parts.scheme not in kinds or not parts.hostname or parts.path.strip("/"):
            raise InputError(f"url must be like http://127.0.0.1:8000, not {url!r}")
        self.url = url
        self._connection = kinds[parts.scheme](parts.netloc, timeout=TIMEOUT_S)
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["X-API-Key"] = api_key

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`.

        Raises:
            InputError: the service cannot be reached, or refuses.
        """
        try:
            status, body = self._request("GET", path)
        except (OSError, http.client.HTTPException) as error:
            raise InputError(f"{self.url}: the service cannot be reached ({error})") from None
        if status != 200:
            raise InputError(f"{self.url}{path}: {_reason(status, body)}")
        value: dict[str, Any] = json.loads(body)
        return value

    def post(
        self,
        path: str,
        value: dict[str, Any],
        *,
        stop: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = print,
    ) -> bool:
        """Post JSON; while the service is busy or away, again and again.

        Args:
            path: where to.
            value: what.
            stop: whether to give up.
            say: told when the service does not take it, and when it does again.

        Returns:
            Whether it was taken; False: given up.

        Raises:
            InputError: the service refuses it.
        """
        body, told = json.dumps(value), False
        while not stop():
            try:
                status, answer = self._request("POST", path, body)
                trouble = _reason(status, answer) if status in BUSY else None
            except (OSError, http.client.HTTPException) as error:
                status, answer, trouble = 0, b"", f"cannot be reached ({error})"
            if trouble is None:
                if status >= 400:
                    raise InputError(f"{self.url}{path}: {_reason(status, answer)}")
                if told:
                    say(f"{self.url}: takes segments again")
                return True
            if not told:
                say(f"{self.url}: {trouble}; trying again")
                told = True
            _sleep(RETRY_S, stop)
        return False

    def delete(self, path: str) -> None:
        """Delete what is at `path`, if the service is there and has it."""
        try:
            self._request("DELETE", path)
        except (OSError, http.client.HTTPException):
            self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        for again in (True, False):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, path, body, self._headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                # A kept connection may have been closed by the service meanwhile; a new one tells.
                if fresh or not again:
                    raise
        raise AssertionError


def _reason(status: int, body: bytes) -> str:
    try:
        return f"{status}: {json.loads(body)['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"answered {status}"


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not stop() and (rest := end - time.monotonic()) > 0:
        time.sleep(min(rest, 0.1))
