"""A tiny engine, and a service around it, that the tests of live rooms share."""

from __future__ import annotations

import base64
import io
from contextlib import contextmanager

import httpx
import numpy as np
import torch
from PIL import Image

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, ModelConfig, TrainConfig
from contentctr.live.engine import Engine
from contentctr.live.service.app import create_app
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.server import make_server, serving
from contentctr.models.ensemble import members_of
from contentctr.models.registry import build_model
from contentctr.store.statistics import WIDTH
from live_scorer import teach

V, T, X, W, N = 6, 4, 5, 6, 8
SPEC = DataSpec(
    visual_dim=V,
    text_dim=T,
    segment_seconds=30.0,
    simulated=True,
    statistics_dim=WIDTH,
    sound_dim=X,
    words_dim=W,
)
MORE = {"statistics": True, "residual": True, "sound": True, "words": True}
"""Settings of a model that reads counts, sound and words."""
KNOWN = Vocabulary(streamers=["a", "b"])


def make_config(kind="contentctr", horizon=0, window_len=N, members=1, **sizes):
    sizes = {
        "d_model": 16,
        "num_heads": 2,
        "perceiver_layers": 2,
        "decoder_layers": 2,
        "streamer_dim": 4,
        **sizes,
    }
    return Config(
        data=DataConfig(window_len=window_len, horizon=horizon),
        model=ModelConfig(kind=kind, **sizes),
        train=TrainConfig(members=members),
    )


def make_model(kind="contentctr", spec=SPEC, **sizes):
    torch.manual_seed(0)
    config = make_config(kind, **sizes)
    model = build_model(config, spec, KNOWN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 1.0)
        for member in members_of(model) if config.model.words else ():
            teach(member.words)
    return model, config


def make_engine(kind="contentctr", spec=SPEC, sizes=None, **options):
    model, config = make_model(kind, spec, **(sizes or {}))
    return Engine(model, config, spec, KNOWN, **{"max_rooms": 16, "batch_size": 8, **options})


def half(values):
    return base64.b64encode(np.asarray(values, "<f2").tobytes()).decode()


def make_post(room="r1", index=0, *, seed=None, **fields):
    """A segment's features by (room, index), as numbers that float16 holds."""
    rng = np.random.default_rng([index, *room.encode()] if seed is None else seed)
    visual, text = (rng.normal(size=n).astype(np.float16).astype(float).tolist() for n in (V, T))
    post = {
        "room_id": room,
        "streamer_id": "a",
        "index": index,
        "visual": visual,
        "text": text,
        "has_speech": True,
        "has_comments": False,
    }
    return {**post, **fields}


def make_picture(kind="PNG", size=(8, 8), color=(200, 30, 30)):
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, kind)
    return data.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


@contextmanager
def running(
    engine=None,
    *,
    settings=None,
    encoder=None,
    clock=None,
    port=0,
    server=None,
    backend=None,
    **options,
):
    """A service on a free port, or on `port`: (client, backend); `server`: of `make_server`."""
    engine = engine or make_engine()
    clocks = {} if clock is None else {"clock": clock}
    backend = backend or LocalBackend(engine, encoder=encoder, **clocks, **options)
    app = create_app(backend, engine, settings, encoder=encoder, **clocks)
    made = make_server(app, backend, port=port, **(server or {}))
    with httpx.Client() as client, serving(made) as url:  # the client sees the service's end
        client.base_url = url
        yield client, backend
