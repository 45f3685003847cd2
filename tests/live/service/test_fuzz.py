"""Schemathesis against the service's own OpenAPI: no 5xx, and only what is documented."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from contentctr.live.service.settings import ServiceSettings
from live_service import make_engine, running

pytestmark = pytest.mark.slow
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def api():
    limits = ServiceSettings(rate=0)
    with running(make_engine(max_rooms=256), settings=limits, queue_size=64) as (client, _):
        url = str(client.base_url)
        yield schemathesis.openapi.from_url(f"{url}/openapi.json"), url


PATHS = (
    "/v1/info",
    "/v1/segments",
    "/v1/rooms",
    "/v1/rooms/{room_id}",
    "/v1/rank",
    "/v1/outcomes",
    "/healthz",
    "/v1/rooms/{room_id}/thumbnail",
    "/readyz",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.filterwarnings("ignore")  # the tool's own
def test_no_request_is_a_fault(api, path):
    schema, url = api
    tried = 0
    for method in schema[path]:
        operation = schema[path][method]
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
            def call(case):
                nonlocal tried
                tried += 1
                case.call_and_validate(base_url=url, checks=CHECKS)

            import hypothesis

            try:
                hypothesis.given(case=operation.as_strategy(generation_mode=mode))(call)()
            except hypothesis.errors.Unsatisfiable:  # nothing can be wrong about it
                assert mode is schemathesis.GenerationMode.NEGATIVE
    assert tried >= 1
