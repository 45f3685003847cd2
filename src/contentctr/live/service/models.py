"""Another model in place of the one that serves: loaded, led along, and let serve in one step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from contentctr.errors import InputError
from contentctr.live.engine import Engine
from contentctr.live.inputs import input_spec, require_same_inputs
from contentctr.live.service.scoring import Scoring, Switched
from contentctr.live.service.warm import Warm

T = TypeVar("T")
Stage = Literal["serving", "loading", "warming up"]
_ROUNDS = 20
"""Times that rooms which went on are led along before the last of them hold a batch up."""
_FEW = 32
"""Segments that may be led along between two batches."""


class SwitchError(Exception):
    """A model cannot be asked for now."""


class Run(Protocol):
    """Does something in the thread that owns the model, between two batches."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What came of it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Told:
    """A model, for whoever asks."""

    id: str
    name: str
    """As it was asked for; "": the one given at the start."""
    since: float
    """Unix seconds."""


class Models:
    """The model that serves, the one before, and the one that is to serve. For the event loop.

    Args:
        scoring: of the scorer's thread.
        run: does something there.
        switched: told of a switch in the event loop, before any score of the new model.
        report: told what the operator should know, a sentence each.
    """

    def __init__(
        self,
        scoring: Scoring,
        run: Run,
        switched: Callable[[Switched], None],
        report: Callable[[str], None],
    ) -> None:
        self._scoring, self._run, self._apply, self._report = scoring, run, switched, report
        self.load: Callable[[str], Engine] | None = None
        """Loads the model of a name, "": the one given at the start; None: no other may be had."""
        self.open_to_all = False
        """Whether another may be asked for where no keys are asked for."""
        self.stage: Stage = "serving"
        self.current = Told(id=scoring.engine.model_id, name="", since=time.time())
        self.previous: Told | None = None
        self.candidate: Told | None = None
        self.last = ""
        """What came of the last switch, a sentence."""

    async def reload(self) -> None:
        """What was given at the start, as it is now; what comes of it is only reported."""
        try:
            await self.switch()
        except SwitchError as error:
            self._report(str(error))
        except InputError:
            pass  # it has been reported

    async def switch(self, name: str = "") -> None:
        """Let the model of a name serve.

        Raises:
            SwitchError: no other model may be had, or one is on its way already.
            InputError: it cannot be loaded, does not fit, or does not take what the rooms sent;
                the one before serves on.
        """
        if self.load is None:
            raise SwitchError("this service has no other model to load")
        if self.stage != "serving":
            raise SwitchError(f"another model is {self.stage}; wait for it")
        load, self.stage = self.load, "loading"
        self.candidate = Told(id="", name=name, since=time.time())
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="models") as thread:
                await self._switch(name, lambda: load(name), thread)
        except Exception as error:
            reason = str(error) if isinstance(error, InputError) else repr(error)[:500]
            self.last = f"model {name or 'given at the start'!r} does not serve: {reason}"
            self._report(f"{self.last}; model {self.current.id} serves on")
            raise InputError(reason) from error
        finally:
            self.stage, self.candidate = "serving", None

    async def _switch(
        self, name: str, load: Callable[[], Engine], thread: ThreadPoolExecutor
    ) -> None:
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(thread, load)
        require_fits(engine, self._scoring.engine)
        if engine.model_id == self.current.id:
            self.last = f"model {engine.model_id} serves already"
            self._report(self.last)
            return
        self.candidate = Told(id=engine.model_id, name=name, since=time.time())
        self.stage, warm = "warming up", Warm(engine)
        for _ in range(_ROUNDS):
            todo = await self._run(lambda: self._scoring.behind(warm))
            if sum(map(len, todo)) <= _FEW:
                break
            await loop.run_in_executor(thread, warm.lead, todo)
        reason = f"model {engine.model_id} serves in place of {self.current.id}"
        self._apply(await self._run(lambda: self._scoring.switch(warm, reason=reason)))

    def switched(self, found: Switched) -> None:
        """Another model serves, or the one before again."""
        now = time.time()
        if found.back:
            failed, before = self.current, self.previous
            assert before is not None
            self.current, self.previous = Told(id=before.id, name=before.name, since=now), None
            self.last = f"model {failed.id} failed ({found.reason}); {before.id} serves again"
        else:
            assert self.candidate is not None
            self.previous, self.current = self.current, self.candidate
            self.last = found.reason
        self._report(self.last)

    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        told = {name: getattr(self, name) for name in ("current", "previous", "candidate")}
        return {
            "state": self.stage,
            **{name: None if model is None else vars(model) for name, model in told.items()},
            "last": self.last,
        }


def require_fits(new: Engine, old: Engine) -> None:
    """Stop where a model cannot take another's place while rooms are live.

    Raises:
        InputError: it reads other features, or predicts something else.
    """
    require_same_inputs(new.spec, input_spec(old.spec), f"model {new.model_id}")
    for name in ("target", "target_scale"):
        mine, theirs = getattr(new.spec, name), getattr(old.spec, name)
        if mine != theirs:
            raise InputError(f"model {new.model_id}: {name} must be {theirs!r}, not {mine!r}")
    mine, theirs = new.config.data.horizon, old.config.data.horizon
    if mine != theirs:
        raise InputError(f"model {new.model_id}: horizon must be {theirs}, not {mine}")
