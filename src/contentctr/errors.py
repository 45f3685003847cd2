"""The one error a user's input can raise, and how it is worded."""


class InputError(ValueError):
    """Something the user gave is wrong: the message names the place, the rule and the value.

    The command line prints the message alone and exits with 2; anything else that is raised is a
    fault of ours and keeps its traceback.
    """


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the optimiser has not moved, and `last` holds that state."""


def require(ok: bool, name: str, rule: str, value: object, *, of: str = "") -> None:
    """A setting keeps its rule; `of` says before its name whose setting it is.

    Raises:
        InputError: it does not: names the setting, the rule and the value.
    """
    if not ok:
        raise InputError(f"{of} {name} must be {rule}, not {value!r}".strip())
