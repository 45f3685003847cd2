"""Chats of YouTube's live streams, as yt-dlp stores them (live_chat.json)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contentctr.rooms.chat.log import ChatLog, clean_text, joined_runs, user_name
from contentctr.rooms.lines import BadLine

_COMMENTS = ("liveChatTextMessageRenderer", "liveChatPaidMessageRenderer")
_GIFTS = (
    "liveChatPaidMessageRenderer",
    "liveChatPaidStickerRenderer",
    "liveChatSponsorshipsGiftPurchaseAnnouncementRenderer",
)


def read_live_chat(log: ChatLog) -> bool:
    """A line an action of the chat's replay, or of the chat as it was live.

    Super Chats are comments and gifts, stickers gifts; what nobody wrote is left out.

    Returns:
        Whether it is such a log.
    """
    if log.document.kind not in ("json", "jsonl") or not any(
        mark in log.document.head
        for mark in ('"replayChatItemAction"', '"addChatItemAction"', '"addLiveChatTickerItem')
    ):
        return False
    log.form = "YouTube live chat (yt-dlp)"
    for number, record in log.document.records(log.bad):
        try:
            for action, offset_ms in _actions(record):
                _add_action(log, action, offset_ms)
        except BadLine as reason:
            log.bad.add(number, str(reason))
    return True


def _actions(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    replay = record.get("replayChatItemAction")
    offset_ms = record.get("videoOffsetTimeMsec")
    if not isinstance(replay, dict):
        yield record, offset_ms
        return
    actions = replay.get("actions")
    if not isinstance(actions, list):
        raise BadLine("replayChatItemAction.actions must be a list")
    for action in actions:
        if isinstance(action, dict):
            yield action, replay.get("videoOffsetTimeMsec", offset_ms)


def _add_action(log: ChatLog, action: dict[str, Any], offset_ms: Any) -> None:
    added = action.get("addChatItemAction")
    item = added.get("item") if isinstance(added, dict) else None
    if not isinstance(item, dict):
        name = next((key for key in action if key.endswith(("Action", "Command"))), "others")
        log.left_out[f"actions {name}"] += 1
        return
    kind = next((key for key in item if isinstance(item[key], dict)), "")
    if kind not in (*_COMMENTS, *_GIFTS):
        log.left_out[f"items {kind or 'others'}"] += 1
        return
    found = item[kind]
    t = _seconds(log, found, offset_ms)
    user = user_name(found.get("authorExternalChannelId") or _simple(found, "authorName"), "author")
    if kind in _GIFTS:
        log.events.append((user, t, "gift"))
    if kind in _COMMENTS:
        message = found.get("message")
        runs = message.get("runs") if isinstance(message, dict) else None
        text = joined_runs(runs) or _simple(found, "message") or ""
        log.add(t, user, clean_text(text, "message"), str(found.get("id") or ""))


def _seconds(log: ChatLog, found: dict[str, Any], offset_ms: Any) -> float:
    """Seconds from the video's start; what was said before it stands at 0 with a text below 0."""
    text = _simple(found, "timestampText")
    if text is not None and text.startswith(("-", "\u2212")):
        return log.axis.seconds(text.replace("\u2212", "-"), "timestampText")
    if offset_ms is not None:
        try:
            return int(offset_ms) / 1000
        except (TypeError, ValueError):
            raise BadLine(
                f"videoOffsetTimeMsec must be a whole number, not {offset_ms!r}"
            ) from None
    usec = found.get("timestampUsec")
    if usec is None and text is not None:
        return log.axis.seconds(text, "timestampText")
    return log.axis.seconds(usec, "timestampUsec")


def _simple(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    text = value.get("simpleText") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None
