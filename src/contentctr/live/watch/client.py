"""The one HTTP client of the package: JSON to and from a service, with patience when it is gone."""

from __future__ import annotations

import base64
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.files import parse_json

TIMEOUT_S = 30.0
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 5.0
LONGEST_RETRY_AFTER_S = 60.0
"""Of what Retry-After says: longer than LONGEST_WAIT_S, but not for ever."""
BUSY = (429, 502, 503, 504)
"""What says that the service, or a proxy before it, may take it later."""
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


class UnavailableError(Exception):
    """The service is busy or away: another try may do."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Client:
    """For one thread.

    Args:
        url: of the service, such as http://127.0.0.1:8000.
        api_key: its key, if it wants one.

    Raises:
        InputError: `url` is none of http or https.
    """

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL()
        if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment:
            raise InputError(f"url must be like http://127.0.0.1:8000, not {url!r}")
        self._http = httpx.Client(
            base_url=self.url,
            headers={} if api_key is None else {"X-API-Key": api_key},
            timeout=TIMEOUT_S,
            # A proxy of the environment leads to other machines, never to this one.
            trust_env=parts.host not in _THIS_MACHINE,
        )

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`.

        Raises:
            InputError: the service cannot be reached, or refuses.
        """
        try:
            return self._json("GET", path)
        except UnavailableError as error:
            raise InputError(f"{self.url}{path}: {error}") from None

    def post(
        self,
        path: str,
        value: dict[str, Any],
        *,
        tries: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        report: Callable[[str], None] = lambda line: None,
        before: Callable[[], None] = lambda: None,
    ) -> dict[str, Any] | None:
        """Post JSON; while the service is busy or away, again and again.

        Args:
            path: where to.
            value: what.
            tries: after so many it is an error; None: until `stopped`.
            stopped: whether to give up.
            report: told when the service does not take it, and when it does again.
            before: done before the post, as a part of each try.

        Returns:
            The service's answer; None: given up.

        Raises:
            InputError: the service refuses it, or did not take it at any of the tries.
        """
        for tried in itertools.count(1):
            if stopped():
                break
            try:
                before()
                answer = self._json("POST", path, value)
            except UnavailableError as error:
                if tried == tries:
                    raise InputError(f"{self.url}{path}: {error}, at {tries} tries") from None
                if tried == 1:
                    report(f"{self.url}: {error}; trying again")
                backoff = min(FIRST_WAIT_S * 2 ** (tried - 1), LONGEST_WAIT_S)
                _sleep(max(backoff, error.wait_s), stopped)
            else:
                if tried > 1:
                    report(f"{self.url}: takes segments again")
                return answer
        return None

    def send(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """Post JSON once.

        Raises:
            InputError: the service refuses it.
            UnavailableError: it is busy or away.
        """
        return self._json("POST", path, value)

    def has(self, path: str) -> bool:
        """Whether there is something at `path`.

        Raises:
            InputError: the service refuses to say.
            UnavailableError: it is busy or away.
        """
        answer = self._answer("GET", path)
        if answer.status_code == 404:
            return False
        self._require_success(answer, path)
        return True

    def delete(self, path: str) -> None:
        """Delete what is at `path`, if the service is there and has it."""
        with contextlib.suppress(UnavailableError, InputError):
            self._request("DELETE", path)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _json(self, method: str, path: str, value: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._request(method, path, value)
        try:
            found = parse_json(answer.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InputError(f"{self.url}{path}: must answer a JSON object, and does not")
        return found

    def _request(
        self, method: str, path: str, value: dict[str, Any] | None = None
    ) -> httpx.Response:
        answer = self._answer(method, path, value)
        self._require_success(answer, path)
        return answer

    def _answer(
        self, method: str, path: str, value: dict[str, Any] | None = None
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=value)
        except httpx.RequestError as error:
            raise UnavailableError(f"the service cannot be reached ({error})") from None
        if answer.status_code in BUSY:
            raise UnavailableError(_reason(answer), _retry_after(answer))
        return answer

    def _require_success(self, answer: httpx.Response, path: str) -> None:
        if not answer.is_success:
            raise InputError(f"{self.url}{path}: {_reason(answer)}")


def base64_of(feature: NDArray[np.floating] | None) -> str | None:
    """A feature as a posted segment holds it: base64 of little-endian float16."""
    if feature is None:
        return None
    return base64.b64encode(feature.astype("<f2").tobytes()).decode()


def _reason(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code}: {str(parse_json(answer.content)['detail'])[:500]}"
    except (ValueError, KeyError, TypeError):
        return f"answered {answer.status_code}"


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that the service asks for; 0 where it names none (a date is not read)."""
    text = answer.headers.get("retry-after", "")
    known = text.isascii() and text.isdigit()
    return min(float(text), LONGEST_RETRY_AFTER_S) if known else 0.0


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    """Sleep, but wake soon after `stopped` says so."""
    end = time.monotonic() + seconds
    while not stopped() and (rest := end - time.monotonic()) > 0:
        time.sleep(min(rest, 0.1))
