"""The HTTP service as an application: its routes, its page, and what stands in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from contentctr import __version__
from contentctr.live.clocks import SteadyClock
from contentctr.live.engine import Engine
from contentctr.live.service import model_routes, outcomes, ranks
from contentctr.live.service.access import AccessLog
from contentctr.live.service.api_docs import serve_docs
from contentctr.live.service.backend import Backend
from contentctr.live.service.budget import Budget
from contentctr.live.service.decoding import Decoding
from contentctr.live.service.keys import ApiKeys
from contentctr.live.service.limits import Guard, TokenBuckets
from contentctr.live.service.metrics import Measured
from contentctr.live.service.refusals import Json, handle_errors
from contentctr.live.service.routes import Service, router
from contentctr.live.service.settings import ServiceSettings

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder  # brings what opens recordings

PAGE = Path(__file__).parents[1] / "page"


def create_app(
    backend: Backend,
    engine: Engine,
    settings: ServiceSettings | None = None,
    *,
    encoder: LiveEncoder | None = None,
    clock: Callable[[], float] | None = None,
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        backend: scores segments and knows the rooms; started and stopped with the application.
        engine: the model's; here it only describes the model and checks segments.
        settings: limits and key.
        encoder: the backend's; None: posts must hold features.
        clock: Unix seconds; None: SteadyClock.

    Raises:
        InputError: a key is none.
    """
    settings, clock = settings or ServiceSettings(), clock or SteadyClock()
    app = FastAPI(
        title="contentctr",
        version=__version__,
        description="Predicted CTR, or what else the model was trained for, of every segment of "
        "live rooms, and a ranking by it.",
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's load scripts from elsewhere, which the page's policy forbids
        redoc_url=None,
        default_response_class=Json,
    )
    decoding = Decoding(settings.max_encoding)
    app.state.service = Service(
        backend=backend,
        described=engine,
        settings=settings,
        encoder=encoder,
        clock=clock,
        from_wall=clock.of if isinstance(clock, SteadyClock) else float,
        decoding=decoding,
        ranks=ranks.Ranks(),
    )
    if encoder is not None:
        gauge = backend.metrics.gauge
        gauge("encoding_posts", "Posts that wait to be encoded.", lambda: decoding.posts.held)
        gauge("decoding_pixels", "Pixels that wait to be read.", lambda: decoding.pixels.held)
    backend.events.places = Budget(settings.max_listeners, settings.listeners_per_client)
    app.include_router(router)
    app.include_router(model_routes.router)
    app.include_router(ranks.router)
    app.include_router(outcomes.router)
    serve_docs(app, keys_needed=settings.api_key is not None or settings.keys_file is not None)
    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    described = [route for route in app.routes if getattr(route, "path", "")]
    parts = (router, model_routes.router, ranks.router, outcomes.router)
    handle_errors(app, [*(route for part in parts for route in part.routes), *described])
    _stand_guard(app, backend, settings)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    await service.backend.start()
    yield
    await service.backend.stop()
    service.decoding.close()
    service.ranks.close()


def _stand_guard(app: FastAPI, backend: Backend, settings: ServiceSettings) -> None:
    """Limits in front of the routes, and the count of requests in front of the limits."""
    app.add_middleware(
        Guard,
        keys=ApiKeys(settings.api_key, settings.keys_file, rooms=settings.rooms_per_key),
        buckets=TokenBuckets(settings.rate, settings.burst) if settings.rate else None,
        busy=lambda: backend.busy or app.state.service.decoding.full,
        settings=settings,
    )
    app.add_middleware(Measured, metrics=backend.metrics, log=AccessLog(settings.access_log))
