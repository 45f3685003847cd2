"""The API as it is described, for programs and for people."""

import pytest

from browser import Browser, find_browser
from contentctr.live.service.settings import ServiceSettings
from live_service import running

METHODS = {"get", "post", "delete"}


@pytest.mark.parametrize("keys", [True, False])
def test_every_route_has_a_summary_and_says_whether_it_wants_a_key(keys):
    validator = pytest.importorskip("jsonschema_rs")
    settings = ServiceSettings(api_key="secret" if keys else None)
    with running(settings=settings) as (client, _):
        schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    operations = {
        (path, method): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    assert ("/v1/models", "post") in operations and ("/v1/rank", "post") in operations
    for (path, method), operation in operations.items():
        assert method in METHODS and operation["summary"] and operation["description"]
        wanted = [{"key": []}] if keys else [{"key": []}, {}]
        assert operation["security"] == (wanted if path.startswith("/v1/") else [])
        codes = set(operation["responses"])
        assert not path.startswith("/v1/") or "401" in codes
    summaries = [operation["summary"] for operation in operations.values()]
    assert len(set(summaries)) == len(summaries)
    for name, part in schema["components"]["schemas"].items():
        validator.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **part})
        assert name.isalnum()  # two of one name would have their modules' before it


def test_the_schema_is_openapi():
    schemathesis = pytest.importorskip("schemathesis")
    with running() as (client, _):
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        schema.validate()


def test_the_pages_follow_the_rules_of_the_rest():
    settings = ServiceSettings(api_key="secret", allowed_hosts=("127.0.0.1",))
    with running(settings=settings) as (client, _):
        for path in ("/docs", "/redoc", "/docs/assets/swagger-ui.css", "/docs/page/swagger.js"):
            answer = client.get(path)
            assert (
                answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
            )
            assert "script-src 'self';" in answer.headers["content-security-policy"]
            assert client.get(path, headers={"host": "evil.example"}).status_code == 421
        assert client.get("/docs/assets/../../secret").status_code == 404
        assert client.post("/docs").status_code == 405


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("docs", ["Score a segment", "Authorize"]),
        ("redoc", ["Score a segment", "Rank candidate rooms"]),
    ],
)
def test_the_pages_show_the_api_and_ask_no_other_host(tmp_path, path, words):
    settings = ServiceSettings(api_key="secret")
    with running(settings=settings) as (client, _):
        browser = Browser(tmp_path)
        try:
            browser.size(1100, 900)
            browser.open(str(client.base_url.join(path)))
            for word in words:
                browser.until(f"document.body.innerText.includes({word!r})")
            browser.picture(tmp_path / "page.png")
            sent = browser.told("Network.requestWillBeSent")
            # ReDoc's logo is on its makers' host: the policy stops the request before it is one.
            stopped = {
                told["requestId"]
                for told in browser.told("Network.loadingFailed")
                if told.get("blockedReason") == "csp"
            }
            own = str(client.base_url)
            asked = [r["request"]["url"] for r in sent if r["requestId"] not in stopped]
            assert all(url.startswith((own, "data:")) for url in asked) and len(asked) > 3
        finally:
            browser.close()
