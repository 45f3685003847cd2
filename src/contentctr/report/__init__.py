"""The report page of an evaluation, from its saved files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contentctr.report.write import write_report as write_report


def __getattr__(name: str) -> Any:
    # On first use: a report reads what a model evaluated, and torch takes seconds to load, while
    # the figures of this folder are drawn without it too.
    if name != "write_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from contentctr.report.write import write_report as found

    return found
