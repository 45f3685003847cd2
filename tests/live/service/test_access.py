"""The access log: JSON, a share of all requests, every fault, and no secret."""

import json

from contentctr.live.service.access import AccessLog
from contentctr.live.service.settings import ServiceSettings
from live_service import make_post, running


def test_a_share_of_requests_and_every_fault_are_written():
    lines, chances = [], iter([0.1, 0.3, 0.29, 0.9])
    log = AccessLog(0.3, write=lines.append, chance=lambda: next(chances))
    scope = {"method": "GET", "path": "/\u202e" + "x" * 500, "client": ("1.2.3.4", 5)}
    for status in (200, 200, 503, 404, 200):
        log.note(scope, status, 0.01)
    found = [json.loads(line) for line in lines]
    assert [(f["status"], f["share"]) for f in found] == [(200, 0.3), (503, 1.0), (404, 0.3)]
    assert all(line.isascii() and "\n" not in line for line in lines)
    assert (found[0]["client"], len(found[0]["path"]), found[0]["key"]) == ("1.2.3.4", 200, None)
    AccessLog(0.0, write=lines.append).note(scope, 500, 0.01)
    assert len(lines) == 3


def test_the_service_tells_whose_request_it_was_and_no_key(capfd):
    settings = ServiceSettings(api_key="S3CRET", access_log=1.0)
    with running(settings=settings) as (client, _):
        client.post("/v1/segments", json=make_post(), headers={"x-api-key": "S3CRET"})
        client.get("/v1/rooms", headers={"x-api-key": "wrong-S3CRET"})
    text = capfd.readouterr().err
    found = [json.loads(line) for line in text.splitlines()]
    assert [(f["method"], f["path"], f["status"], f["key"]) for f in found] == [
        ("POST", "/v1/segments", 200, "admin"),
        ("GET", "/v1/rooms", 401, None),
    ]
    assert "S3CRET" not in text
