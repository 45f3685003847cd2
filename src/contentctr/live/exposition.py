"""Outcomes and drift as Prometheus reads them: gauges by model, and by span ("hour", "day")."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contentctr.live.engine import Engine
from contentctr.live.outcomes import ModelOutcomes

_OUTCOMES = {
    "segments": "Segments whose outcome came back.",
    "viewers": "Viewers in them.",
    "predicted": "Mean predicted target, by viewers.",
    "observed": "Mean observed target, by viewers.",
    "log_loss": "Log loss of the predictions, by viewers, in nats.",
    "calibration_error": "Distance of prediction and outcome inside a bin, by viewers.",
    "tau": "Kendall's tau inside rooms, mean over those that are looked at.",
    "tau_rooms": "Rooms that tau is the mean of.",
}
_DRIFT = {
    "segments": "Segments beside which a part is there or missing.",
    "missing": "Share of segments without the part.",
    "trained_missing": "The same in training.",
    "shift": "How far the mean of the part's features has moved, in training's spreads.",
    "stability": "Population stability index of their distances from training's mean.",
}


TOO_FAR, TOO_MANY = "too_far", "too_many"


def counts_left_out(name: str, registry: CollectorRegistry) -> Counter:
    """Segments whose counts no statistics read, by reason.

    Theirs is too far from the room's last segment (TOO_FAR), or later ones wait already, as many as
    may (TOO_MANY): so it is where outcomes come and posts do not.
    """
    found = Counter(
        name,
        "Segments whose counts came too late, too early or too many for their statistics.",
        ["reason"],
        registry=registry,
    )
    for reason in (TOO_FAR, TOO_MANY):
        found.labels(reason)  # 0 is told, too
    return found


class OutcomeCollector(Collector):
    """What came back, of a service.

    Args:
        summary: of an OutcomeLog.
    """

    def __init__(self, summary: Callable[[], dict[str, dict[str, ModelOutcomes]]]) -> None:
        self._summary = summary

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """See Collector: the names, without any number."""
        for name, text in _OUTCOMES.items():
            yield GaugeMetricFamily(f"contentctr_outcome_{name}", text, labels=("model", "span"))
        for name in ("predicted", "observed"):
            yield GaugeMetricFamily(
                f"contentctr_outcome_bin_{name}",
                f"As contentctr_outcome_{name}, of predictions up to a number.",
                labels=("model", "span", "up_to"),
            )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See Collector."""
        families = {family.name: family for family in self.describe()}
        for model, spans in self._summary().items():
            for span, found in spans.items():
                for name in _OUTCOMES:
                    value = getattr(found, name)
                    if value is not None:
                        families[f"contentctr_outcome_{name}"].add_metric((model, span), value)
                for one in found.bins:
                    for name in ("predicted", "observed"):
                        family = families[f"contentctr_outcome_bin_{name}"]
                        family.add_metric((model, span, f"{one.high:g}"), getattr(one, name))
        yield from families.values()


class DriftCollector(Collector):
    """How far segments are from training, of whatever scores them: a service, or a worker.

    Args:
        engine: what scores now; it may become another.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """See Collector: the names, without any number."""
        for name, text in _DRIFT.items():
            labels = ("model", "span", "part")
            yield GaugeMetricFamily(f"contentctr_drift_{name}", text, labels=labels)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See Collector."""
        families = {family.name: family for family in self.describe()}
        engine = self._engine()
        found = {} if engine.drift is None else engine.drift.summary(time.time())
        for span, parts in found.items():
            for part, drift in parts.items():
                for name in _DRIFT:
                    value = getattr(drift, name)
                    if value is not None:
                        labels = (engine.model_id, span, part)
                        families[f"contentctr_drift_{name}"].add_metric(labels, value)
        yield from families.values()
