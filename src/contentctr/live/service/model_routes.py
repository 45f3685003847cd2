"""`/v1/models`: which model serves, and another one in its place."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from contentctr.live.service.keys import ANYONE
from contentctr.live.service.models import Models
from contentctr.live.service.refusals import Json
from contentctr.live.service.routes import Sparing, TheCaller, TheService, errors
from contentctr.live.service.schemas import ModelIn, ModelsOut, RolloutOut

router = APIRouter(route_class=Sparing)


def _models(service: TheService) -> Models:
    if service.models is None:
        raise HTTPException(404, "workers score here, and have a rollout of their own")
    return service.models


@router.get(
    "/v1/models",
    summary="The models of this service",
    response_model=ModelsOut | RolloutOut,
    responses=errors(401, 429),
)
async def get_models(service: TheService) -> Response:
    """Which model serves, the one before it, and one that is on its way; with workers, theirs."""
    rollout = service.backend.rollout()
    return Json(_models(service).facts() if rollout is None else rollout)


@router.post(
    "/v1/models",
    summary="Let another model serve",
    response_model=ModelsOut,
    responses=errors(400, 401, 403, 404, 408, 409, 413, 422, 429),
)
async def post_model(service: TheService, caller: TheCaller, wanted: ModelIn) -> Response:
    """Let another model serve; answered once it does, or does not."""
    models = _models(service)
    if caller is ANYONE and not models.open_to_all:
        raise HTTPException(403, "without keys, another model needs --models")
    await models.switch(wanted.name, candidate=wanted.candidate)
    return Json(models.facts())
