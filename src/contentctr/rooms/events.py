"""Action logs: who did what when, from Parquet or CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from contentctr.rooms.cells import as_ids, as_text, no_reasons, replaced
from contentctr.rooms.duplicates import drop_duplicates
from contentctr.rooms.lines import Part
from contentctr.rooms.moment_columns import column_seconds
from contentctr.rooms.moments import TimeAxis
from contentctr.rooms.room import EVENT_KINDS, EVENTS_SCHEMA
from contentctr.rooms.tables import LINE, RawTable, read_table, reject, type_error

NAMES: dict[str, tuple[str, ...]] = {
    "user_id": (
        "userid",
        "uid",
        "user",
        "viewer_id",
        "viewerid",
        "viewer",
        "member_id",
        "account_id",
        "visitor_id",
        "distinct_id",
        "device_id",
    ),
    # Seconds from the start come before clock times.
    "t": (
        "time_in_seconds",
        "offset_seconds",
        "offset",
        "seconds",
        "elapsed",
        "t_s",
        "time_s",
        "ts",
        "time",
        "timestamp",
        "event_time",
        "eventtime",
        "event_timestamp",
        "action_time",
        "created_at",
        "createdat",
        "occurred_at",
        "server_time",
        "client_time",
        "datetime",
        "date_time",
        "timestamp_ms",
        "unix_time",
    ),
    "kind": (
        "event_kind",
        "event_type",
        "eventtype",
        "action_type",
        "actiontype",
        "type",
        "event",
        "event_name",
        "eventname",
        "action",
        "behavior_type",
        "behavior",
        "behaviour",
    ),
}
"""Usual names of each field, from the one that is preferred; any case."""
_ID_NAMES = ("event_id", "eventid", "_id", "id", "log_id", "row_id", "insert_id", "uuid")
_OTHER_KINDS = {
    "exposure": "exposed expose impression impressions impressed imp view views viewed show shows "
    "showed shown display displayed roomexposure roomimpression roomview pageview 曝光 展示",
    "click": "clicks clicked tap taps tapped press roomclick clickroom 点击",
    "like": "likes liked heart hearts thumbup thumbsup upvote praise 点赞 喜欢",
    "comment": "comments commented chat chats message messages msg danmaku danmu chatmessage "
    "sendcomment sendmessage 评论 弹幕 发言",
    "gift": "gifts gifted tip tips tipped donation donations donate donated superchat reward "
    "rewards cheer bits sendgift 礼物 送礼 打赏",
    "follow": "follows followed subscribe subscribes subscribed subscription 关注 订阅",
    "enter": "enters entered join joins joined roomenter enterroom joinroom roomjoin 进入 进房",
    "exit": "exits exited leave leaves left quit quits part roomexit exitroom leaveroom roomleave "
    "离开 退出",
}
_KIND_OF = {kind: kind for kind in EVENT_KINDS} | {
    word: kind for kind, words in _OTHER_KINDS.items() for word in words.split()
}
_ONCE = ("exposure", "click", "follow", "enter", "exit")
"""What nobody does twice in a second."""
_MAX_KINDS = 1000


def read_events(
    path: Path, axis: TimeAxis | None = None, names: Mapping[str, str] | None = None
) -> Part:
    """An action log as a table of EVENTS_SCHEMA, sorted by time, without duplicates.

    Rows that were shipped again are left out (see `drop_duplicates`). Everything is vectorised: a
    log can have tens of millions of lines.

    Args:
        path: a table as `read_table` reads it, with `user_id` (text or whole numbers, kept digit
            by digit), `t` (as `TimeAxis.seconds` reads it) and `kind` (one of EVENT_KINDS, in any
            case, or by another usual name), under these or their usual names (NAMES).
        axis: when the room started, for clock times.
        names: the user's own names of columns.

    Raises:
        InputError: the file is unreadable, a column is missing or of a wrong type, or too many of
            its lines are bad (`BadLines.warnings`).
    """
    raw = read_table(path, NAMES, optional={"id": _ID_NAMES}, names=names)
    _check_types(path, raw)
    users = as_ids(raw.table["user_id"], raw.named["user_id"])
    axis = axis or TimeAxis()
    times = column_seconds(axis, raw.table["t"], raw.named["t"], raw.delimiter)
    kinds, kind_reasons, taken = _kinds(raw)
    table = pl.DataFrame(
        {
            LINE: raw.table[LINE],
            "user_id": users.values,
            "t": times.seconds,
            "kind": kinds,
            "why_user": users.reasons,
            "why_t": times.reasons,
            "why_kind": kind_reasons,
        }
    )
    if "id" in raw.table.columns:
        table = table.with_columns(as_text(raw.table["id"]).fill_null("").alias("id"))
    good = reject(raw, table, pl.coalesce("why_user", "why_t", "why_kind"))
    good = good.drop(LINE, "why_user", "why_t", "why_kind")
    warnings = raw.warnings + raw.bad.warnings(raw.total) + taken
    warnings += [f"{path}: {doubt}" for doubt in users.warnings]
    if times.without_zone and axis.started_at is not None:
        warnings.append(
            f"{path}: {raw.named['t']} names no zone: taken as in that of started_at, "
            f"{axis.started_at.tzname()}"
        )
    if not good.height:
        warnings.append(f"{path}: holds no event")
    distinct = drop_duplicates(good, "t", list(EVENTS_SCHEMA), pl.col("kind").is_in(_ONCE))
    distinct = distinct.select(list(EVENTS_SCHEMA))
    return Part(
        path=path,
        table=distinct.sort("t", maintain_order=True),
        bad_lines=raw.bad.count,
        duplicates=good.height - distinct.height,
        warnings=warnings,
        form=f"events: {raw.form}",
    )


def _check_types(path: Path, raw: RawTable) -> None:
    schema = raw.table.schema
    texts = (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)
    for name, rule, good in (
        ("user_id", "text or a whole number", lambda k: k in texts or k.is_numeric()),
        (
            "t",
            "a time: seconds from the room's start, or a date and time",
            lambda k: k in (*texts, pl.Datetime, pl.Duration, pl.Time) or k.is_numeric(),
        ),
        ("kind", "text", lambda k: k in texts),
    ):
        if not good(schema[name]):
            raise type_error(path, raw.named[name], rule, str(schema[name]))


def _kinds(raw: RawTable) -> tuple[pl.Series, pl.Series, list[str]]:
    """Each row's kind, why it has none, and what was taken for what."""
    column = raw.table["kind"]
    column = as_text(column) if column.dtype == pl.Binary else column.cast(pl.String)
    given = column.unique().drop_nulls()
    name = raw.named["kind"]
    wanted = f"{name} must be one of {', '.join(EVENT_KINDS)}, not "
    kind_of, reason_of, taken = {}, {}, []
    for word, text in zip(given, as_text(given), strict=True):
        key = "" if text is None else re.sub(r"[\W_]+", "", text).lower()
        if key in _KIND_OF:
            kind_of[word] = _KIND_OF[key]
            if key != _KIND_OF[key]:
                taken.append(f"{text} as {_KIND_OF[key]}")
        elif text is not None:
            reason_of[word] = f"{wanted}'{text[:60]}'"
        if len(reason_of) > _MAX_KINDS:
            break
    kinds = replaced(column, kind_of).cast(pl.Enum(EVENT_KINDS))
    if kinds.null_count() == 0:
        reasons = no_reasons(column)
    else:
        reasons = pl.select(
            pl.when(kinds.is_null()).then(
                pl.coalesce(
                    replaced(column, reason_of),
                    pl.when(column.is_not_null() & (column != "")).then(pl.lit(wanted + "others")),
                    pl.lit(f"{name} is missing"),
                )
            )
        ).to_series()
    said = f"{raw.bad.path}: kinds taken by their usual names: {', '.join(sorted(taken))}"
    return kinds, reasons, [said] if taken else []
