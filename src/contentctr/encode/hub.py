"""Models of transformers, from its hub or from a local folder: whole, and without remote code."""

from __future__ import annotations

import hashlib
import importlib
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from contentctr.errors import InputError
from contentctr.files import digest, read_json

_MAX_SHARDS = 1000
LOAD_ERRORS = (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError)
"""What transformers raises for a folder, a name or a file that is not a model's."""


def transformers() -> Any:
    """The library, without its progress bars."""
    # Imported when used: it takes seconds, and commands without encoders do not need it.
    module = importlib.import_module("transformers")
    module.utils.logging.disable_progress_bar()
    return module


def load_model(name: str) -> tuple[Any, set[str]]:
    """The model in float32 and evaluation mode, and the names of weights that its files lack."""
    _require_own_shards(Path(name))
    library = transformers()
    logging = library.utils.logging
    before = logging.get_verbosity()
    # Missing weights are judged here, by name, not left to a table in the log.
    logging.set_verbosity_error()
    try:
        model, info = library.AutoModel.from_pretrained(
            name,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(before)
    return model.eval(), set(info["missing_keys"])


def _require_own_shards(folder: Path) -> None:
    """Stop at a local model whose index names weight files that are not the folder's own.

    Raises:
        InputError: names the index and the file.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(v, str) for v in shards.values()):
        raise InputError(f"{index}: weight_map must be an object of file names")
    names = sorted(set(shards.values()))
    if len(names) > _MAX_SHARDS:
        raise InputError(f"{index}: must name at most {_MAX_SHARDS} files, not {len(names)}")
    for name in names:
        # Also on a system that takes a backslash for a part of a name: the folder may move.
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise InputError(
                f"{index}: weights must be in .safetensors files of its folder, not {name!r}"
            )


def require_whole(name: str, missing: set[str]) -> None:
    """Stop at a model of which weights are missing: they would stay random."""
    if missing:
        raise InputError(
            f"encoder {name!r}: its weight file lacks {len(missing)} weights of the model, such "
            f"as {min(missing)}"
        )


def require_reachable(name: str, what: str) -> None:
    """Fail at once where the hub cannot be reached: its client tries for minutes."""
    hub = importlib.import_module("huggingface_hub")
    if Path(name).exists() or hub.constants.HF_HUB_OFFLINE or urllib.request.getproxies():
        return
    if len(Path(name).parts) > 2 or name.startswith((".", "~")):
        raise unloadable(name, what, OSError("no such folder"))
    if isinstance(hub.try_to_load_from_cache(name, "config.json"), str):
        return
    address = urllib.parse.urlsplit(hub.constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError as error:
        reason = OSError(f"the model hub {address.hostname} cannot be reached ({error})")
        raise unloadable(name, what, reason) from None


def unloadable(name: str, what: str, error: Exception) -> InputError:
    """What to say of a model that cannot be had, and what can be had without a hub."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return InputError(
        f"{what} encoder {name!r} cannot be loaded: {reason}. Without a model hub, give a local "
        f"folder that holds the model (config.json, model.safetensors and its "
        f"{'preprocessor_config.json' if what == 'image' else 'tokenizer'}), or 'embedded'"
    )


def weights_hash(module: nn.Module) -> str:
    """Hash of a module's weights, with their names."""
    total = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        data = value.detach().cpu().contiguous()
        total.update(f"{key} {data.dtype} {tuple(data.shape)}\n".encode())
        total.update(data.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of what a tokenizer makes of a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest(sorted(tokenizer.get_vocab().items()))
    state = backend.to_str()
    # Before it stands what the last call set, not the tokenizer's own. Cut and not parsed: of
    # 250,000 pieces that would take a second.
    return hashlib.sha256(state[state.index('"added_tokens"') :].encode()).hexdigest()
