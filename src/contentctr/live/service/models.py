"""Another model in place of the one that serves: loaded, led along, and let serve in one step."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from contentctr.errors import InputError
from contentctr.live.engine import Engine
from contentctr.live.inputs import input_spec, require_same_inputs
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.scoring import Run, Scoring, Switched
from contentctr.live.service.shadow import Shadow
from contentctr.live.service.warm import Warm

Stage = Literal["serving", "loading", "warming up"]
_ROUNDS = 20
"""Times that rooms which went on are led along before the last of them hold a batch up."""
_FEW = 32
"""Segments that may be led along between two batches."""


class SwitchError(Exception):
    """A model cannot be asked for now."""


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
        name: of the model that serves first, as it was asked for before; "": it was not.
    """

    def __init__(
        self,
        scoring: Scoring,
        run: Run,
        switched: Callable[[Switched], None],
        report: Callable[[str], None],
        name: str = "",
    ) -> None:
        self._scoring, self._run, self._apply, self._report = scoring, run, switched, report
        self.load: Callable[[str], Engine] | None = None
        """Loads the model of a name, "": the one given at the start; None: no other may be had."""
        self.first_candidate: Callable[[], Engine] | None = None
        """Loads the model that scores in the shadow from the start; None: none does."""
        self._failed, self._retry = False, asyncio.Event()
        """Whether the candidate that was given is none any more, as it has failed."""
        self._is_candidates = False
        """Whether the model that serves was the candidate."""
        self._shadow: Shadow | None = None
        self._shadow_told: Told | None = None
        self.open_to_all = False
        """Whether another may be asked for where no keys are asked for."""
        self.stage: Stage = "serving"
        self.current = Told(id=scoring.engine.model_id, name=name, since=time.time())
        self.previous: Told | None = None
        self.candidate: Told | None = None
        self.last = ""
        """What came of the last switch, a sentence."""

    async def reload(self) -> None:
        """What was given at the start, as it is now; what comes of it is only reported.

        A candidate that has failed scores in the shadow again.
        """
        try:
            await self.switch()
        except SwitchError as error:
            self._report(str(error))
        except InputError:
            pass  # it has been reported
        if self._failed and self.stage == "serving":
            self._retry.set()

    async def follow(self) -> None:
        """Have the candidate that was given score in the shadow; again, once it is retried."""
        while self.first_candidate is not None:
            await self._follow(self.first_candidate)
            await self._retry.wait()
            self._retry.clear()

    async def _follow(self, given: Callable[[], Engine]) -> None:
        """Until it serves or fails."""
        self._failed, loop = False, asyncio.get_running_loop()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="models") as thread:
                engine = await loop.run_in_executor(thread, given)
            require_fits(engine, self._scoring.engine)
            self._shadow = Shadow(engine, self._scoring, self._run)
            self._shadow_told = Told(id=engine.model_id, name="", since=time.time())
            self._report(f"model {engine.model_id} scores in the shadow")
            await self._shadow.follow()
        except Exception as error:
            self._shadow = self._shadow_told = None
            self._failed = True
            reason = str(error) if isinstance(error, InputError) else repr(error)[:500]
            self.last = f"the candidate is none any more: {reason}"
            self._report(self.last)

    async def switch(self, name: str = "", *, candidate: bool = False) -> None:
        """Let the model of a name serve, or the candidate; one that has failed is loaded anew.

        Raises:
            SwitchError: no other model may be had, or one is on its way already.
            InputError: it cannot be loaded, does not fit, or does not take what the rooms sent;
                the one before serves on.
        """
        if self.load is None:
            raise SwitchError("this service has no other model to load")
        if candidate and self._shadow is None and not self._failed:
            raise SwitchError("this service has no candidate")
        if self.stage != "serving":
            raise SwitchError(f"another model is {self.stage}; wait for it")
        load: Callable[[], Engine] = functools.partial(self.load, name)
        if candidate and self.first_candidate is not None:
            load = self.first_candidate
        self.stage = "loading"
        self.candidate = Told(id="", name=name, since=time.time())
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="models") as thread:
                if candidate and self._shadow is not None:
                    warm = await self._shadow.end()
                    self._shadow = self._shadow_told = None
                else:
                    loop = asyncio.get_running_loop()
                    warm = Warm(await loop.run_in_executor(thread, load))
                await self._switch(name, warm, thread)
        except Exception as error:
            reason = str(error) if isinstance(error, InputError) else repr(error)[:500]
            wanted = "the candidate" if candidate else f"model {name or 'given at the start'!r}"
            self.last = f"{wanted} does not serve: {reason}"
            self._report(f"{self.last}; model {self.current.id} serves on")
            self._failed = self._failed or candidate
            raise InputError(reason) from error
        else:
            self._is_candidates, self._failed = candidate, self._failed and not candidate
        finally:
            self.stage, self.candidate = "serving", None

    async def _switch(self, name: str, warm: Warm, thread: ThreadPoolExecutor) -> None:
        loop, engine = asyncio.get_running_loop(), warm.engine
        require_fits(engine, self._scoring.engine)
        if engine.model_id == self.current.id:
            self.last = f"model {engine.model_id} serves already"
            self._report(self.last)
            return
        self.candidate = Told(id=engine.model_id, name=name, since=time.time())
        self.stage = "warming up"
        for _ in range(_ROUNDS):
            todo = await self._run(lambda: self._scoring.behind(warm))
            if sum(map(len, todo)) <= _FEW:
                break
            await loop.run_in_executor(thread, warm.lead, todo)
        reason = f"model {engine.model_id} serves in place of {self.current.id}"
        self._apply(await self._run(lambda: self._scoring.switch(warm, reason=reason, name=name)))

    def switched(self, found: Switched) -> None:
        """Another model serves, or the one before again."""
        now = time.time()
        if found.back:
            self._failed = self._failed or self._is_candidates
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
        candidate = self.candidate or self._shadow_told
        told = {"current": self.current, "previous": self.previous, "candidate": candidate}
        agreement = None if self._shadow is None else self._shadow.agreement
        return {
            "state": self.stage,
            **{name: None if model is None else vars(model) for name, model in told.items()},
            "agreement": None if agreement is None else asdict(agreement),
            "last": self.last,
        }


def load_served(
    keeper: Keeper, engine: Engine, load: Callable[[str], Engine], report: Callable[[str], None]
) -> Engine:
    """The model that served before, where it had been asked for by name; or the one given now.

    Args:
        keeper: knows which served; is told which serves now.
        engine: with the model given at the start.
        load: loads the model of a name.
        report: told where the model is not the one given, or not the one before.
    """
    name, before = keeper.served() or ("", engine.model_id)
    reason = ""
    if name:
        try:
            found = load(name)
            require_fits(found, engine)
            engine, keeper.name = found, name
            reason = f", asked for as {name!r} then"
        except InputError as error:
            reason = f": {error}"
    if before != engine.model_id:
        report(f"model {before} served before, and {engine.model_id} serves now{reason}")
    elif name:
        report(f"model {before} serves again{reason}")
    return engine


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
