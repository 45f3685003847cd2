"""Whether chat and video seem shifted against each other: an honest guess, or none.

Viewers write some seconds after something happens. What happens is seen without decoding: pictures
that change take more bytes, cuts bring keyframes before their time, and loud sound takes more than
silence. Where the rate of comments follows one of these at one lag, far better than it does at any
other and than the same comments backwards do, that lag tells the shift. Most chats follow nothing
so clearly; then their ends may tell, or nothing does, and that is what is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contentctr.rooms.inspection.facts import Floats, RecordingFacts, Shift

REACTION_S = 5.0
"""Usual time from what happens to comments on it; a stream's own delay is part of it."""
IN_STEP_S = (-4.0, 20.0)
"""Lags that comments have where nothing is shifted."""
MAX_SHIFT_S = 300.0
"""No larger shift is looked for; in short rooms, none over a third of them."""
MIN_COMMENTS = 20
MIN_LENGTH_S = 120.0
_TREND_S = 150
"""Slower changes, to each side, are taken out: both grow in a good room, whatever the shift."""
_SMOOTH_S = 2.0
_CLEAR, _SURE = 4.5, 5.5
"""Heights of a peak, in standard deviations of what chance gives: for a lag as it should be, which
most rooms have, and for another. The highest of 1,200 unrelated noises was 4.8."""
_OVER_NEXT = 1.4
"""The peak must be so many times as high as any more than _APART_S away."""
_APART_S = 15
_QUIET = 3.0
"""Quiet at an end counts if it is so much longer than any inside the chat."""
_OVERHANG_S = 10.0
"""Comments so far outside of the recording are more than a chat that goes on a little."""


def find_shift(
    comments_s: Floats, duration_s: float | None, recording: RecordingFacts | None
) -> Shift:
    """Tell the shift of a chat.

    Args:
        comments_s: times of comments by the chat's clock, in seconds, ascending; shape (C,).
        duration_s: length of the room; None where it is unknown.
        recording: its video; None where there is none.
    """
    if duration_s is None or recording is None:
        return Shift(verdict="cannot tell", reason="there is no video beside the comments")
    facts = _end_facts(comments_s, duration_s)
    if duration_s < MIN_LENGTH_S:
        short = f"{duration_s:.0f} s are too short: at least {MIN_LENGTH_S:.0f} s are needed"
        return Shift(verdict="cannot tell", reason=short, facts=facts)
    if len(comments_s) < MIN_COMMENTS:
        few = f"too few comments, {len(comments_s)}: at least {MIN_COMMENTS} are needed"
        return Shift(verdict="cannot tell", reason=few, facts=facts)
    by_lag = _by_correlation(comments_s, duration_s, recording)
    by_ends = _by_ends(comments_s, duration_s)
    if by_lag is not None:
        return _of_peak(by_lag, facts)
    if by_ends is not None:
        side = "late" if by_ends > 0 else "early"
        quiet, over = ("begins", "ends") if by_ends > 0 else ("ends", "begins")
        return Shift(
            verdict="shifted",
            reason=f"the chat seems some {abs(by_ends):.0f} s {side}: it is silent for as long "
            f"where the video {quiet} as it reaches beyond where the video {over}",
            shift_s=round(by_ends, 1),
            facts=facts,
        )
    return Shift(
        verdict="cannot tell",
        reason="the rate of comments follows neither pictures nor sound clearly at any one lag",
        facts=facts,
    )


@dataclass(frozen=True)
class _Peak:
    lag_s: float
    correlation: float
    deviations: float
    """Its height, in standard deviations of what chance gives."""
    source: str


def _of_peak(peak: _Peak, facts: list[str]) -> Shift:
    how = "come before" if peak.lag_s < 0 else "follow"
    follow = (
        f"comments {how} {peak.source} by {abs(peak.lag_s):.0f} s (correlation "
        f"{peak.correlation:.2f}, {peak.deviations:.1f} standard deviations over chance)"
    )
    if _is_in_step(peak.lag_s):
        verdict, shift_s, reason = "in step", 0.0, follow
    else:
        verdict, shift_s = "shifted", round(peak.lag_s - REACTION_S, 1)
        side = "late" if shift_s > 0 else "early"
        reason = f"the chat seems some {abs(shift_s):.0f} s {side}: {follow}"
    return Shift(
        verdict=verdict,  # type: ignore[arg-type]
        reason=reason,
        shift_s=shift_s,
        lag_s=round(peak.lag_s, 1),
        correlation=round(peak.correlation, 3),
        facts=facts,
    )


def _is_in_step(lag_s: float) -> bool:
    return IN_STEP_S[0] <= lag_s <= IN_STEP_S[1]


def _by_correlation(
    comments_s: Floats, duration_s: float, recording: RecordingFacts
) -> _Peak | None:
    """The clearest peak over pictures, cuts and sound; None where there is none, or two differ."""
    longest = int(min(MAX_SHIFT_S, duration_s / 3))
    length = int(duration_s)
    rate = _comment_rate(comments_s, length, longest)
    peaks = []
    for source, activity in (
        ("changes of the pictures", recording.picture_activity),
        ("cuts", recording.cuts),
        ("loud sound", recording.sound_activity),
    ):
        series = _standard(activity, length, is_count=source == "cuts")
        peak = None if series is None else _peak(series, rate, longest, source)
        if peak is not None:
            peaks.append(peak)
    if not peaks:
        return None
    best = max(peaks, key=lambda peak: peak.deviations)
    if any(abs(peak.lag_s - best.lag_s) > _APART_S for peak in peaks):
        return None
    return best


def _comment_rate(comments_s: Floats, length: int, longest: int) -> Floats:
    """Comments a second from `longest` before the room to as much after it; no trend, smooth."""
    begin, end = -longest, length + longest
    counts, _ = np.histogram(comments_s, bins=end - begin, range=(begin, end))
    # The root keeps one burst from being all that counts.
    rate = np.sqrt(counts.astype(np.float64))
    first = max(int(comments_s[0]) - begin, 0)
    last = min(int(comments_s[-1]) - begin + 1, len(rate))
    out = np.zeros(len(rate))
    if last > first:
        out[first:last] = _without_trend(rate[first:last])
    return _smooth(out)


def _standard(activity: Floats, length: int, *, is_count: bool) -> Floats | None:
    """A series of the room's seconds without trend, of variance 1; None where nothing varies."""
    values = np.zeros(length)
    values[: min(length, len(activity))] = activity[:length]
    there = values > 0
    if not is_count:
        if there.sum() < length / 4:
            return None
        # Seconds without a packet say nothing: rare pictures, a hole.
        values = np.log(np.where(there, values, np.median(values[there])))
    elif there.sum() < 5:
        return None
    values = _without_trend(values)
    scale = values.std()
    if scale < 1e-6:
        return None
    return _smooth(np.clip(values / scale, -5.0, 5.0))


def _without_trend(values: Floats) -> Floats:
    """Less the mean of what is around."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    place = np.arange(len(values))
    low, high = np.maximum(place - _TREND_S, 0), np.minimum(place + _TREND_S + 1, len(values))
    return np.asarray(values - (sums[high] - sums[low]) / (high - low))


def _smooth(values: Floats) -> Floats:
    reach = int(3 * _SMOOTH_S)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SMOOTH_S) ** 2)
    return np.convolve(values, kernel / kernel.sum(), mode="same")


def _peak(activity: Floats, rate: Floats, longest: int, source: str) -> _Peak | None:
    """The lag at which the rate follows the activity, if there is one and no other."""
    norm = float(np.linalg.norm(activity) * np.linalg.norm(rate))
    if norm < 1e-9:
        return None
    # Place k is the lag k - longest: the rate begins `longest` before the room.
    lags = _correlate(activity, rate)[: 2 * longest + 1] / norm
    best = int(np.argmax(lags))
    height = float(lags[best])
    # What chance gives: the same comments backwards, which follow nothing, at every lag, and
    # forwards at lags that no shift has; both go round at the ends.
    back = _correlate(activity, rate[::-1])
    far = _correlate(activity, rate)[2 * longest + 1 :]
    deviations = height / max(float(np.concatenate([back, far]).std()) / norm, 1e-9)
    apart = np.abs(np.arange(len(lags)) - best) > _APART_S
    lag_s = _middle(lags, best) - longest
    enough = _CLEAR if _is_in_step(lag_s) else _SURE
    # At the border the true peak may lie beyond.
    at_border = best in (0, len(lags) - 1)
    if deviations < enough or height < _OVER_NEXT * float(lags[apart].max()) or at_border:
        return None
    return _Peak(lag_s=lag_s, correlation=height, deviations=deviations, source=source)


def _correlate(activity: Floats, rate: Floats) -> Floats:
    """Sums of activity[t] * rate[t + k] for k from 0 on, round at the end."""
    size = len(rate)
    product = np.fft.rfft(rate) * np.conj(np.fft.rfft(activity, size))
    return np.fft.irfft(product, size)


def _middle(lags: Floats, best: int) -> float:
    """The peak's middle, by what is above half of its height around it."""
    low = high = best
    half = lags[best] / 2
    while low > 0 and lags[low - 1] > half:
        low -= 1
    while high < len(lags) - 1 and lags[high + 1] > half:
        high += 1
    weights = lags[low : high + 1] - half
    return float((np.arange(low, high + 1) * weights).sum() / weights.sum())


def _by_ends(comments_s: Floats, duration_s: float) -> float | None:
    """The shift by which a chat is silent at one end for as long as it reaches beyond the other."""
    first_s, last_s = float(comments_s[0]), float(comments_s[-1])
    pause_s = float(np.diff(comments_s).max())
    for quiet_s, over_s, sign in (
        (first_s, last_s - duration_s, 1),
        (duration_s - last_s, -first_s, -1),
    ):
        near = abs(quiet_s - over_s) <= max(10.0, 0.2 * over_s)
        if over_s >= _OVERHANG_S and near and quiet_s >= _QUIET * pause_s:
            return sign * (quiet_s + over_s) / 2
    return None


def _end_facts(comments_s: Floats, duration_s: float) -> list[str]:
    """How the chat's ends lie to those of the video."""
    if not len(comments_s):
        return []
    first_s, last_s = float(comments_s[0]), float(comments_s[-1])
    facts, total = [], len(comments_s)
    if first_s < 0:
        count = int((comments_s < 0).sum())
        facts.append(
            f"the first comment comes {-first_s:.0f} s before the video begins ({count} of {total})"
        )
    else:
        facts.append(f"the first comment comes {first_s:.0f} s after the video begins")
    if last_s >= duration_s:
        count = int((comments_s >= duration_s).sum())
        facts.append(
            f"comments go on for {last_s - duration_s:.0f} s after its end ({count} of {total})"
        )
    else:
        facts.append(f"the last one comes {duration_s - last_s:.0f} s before its end")
    return facts
