"""Checks of the arguments that users give, with one wording for all of them."""

import numbers
import os
import reprlib
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

_LARGEST = float(np.finfo("float32").max)
_LARGEST_INT = np.iinfo("int32").max


_REPR = reprlib.Repr()
_REPR.maxother = _REPR.maxstring = _REPR.maxlong = 200
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 12


def short(value: Any) -> str:
    """What `repr` says of a value, in one line of some 200 characters at most."""
    return " ".join(_REPR.repr(value).split())


def refusal(name: str, value: Any, wanted: str) -> ValueError:
    """The error for an argument that is something else than what is wanted."""
    kind = (
        "" if isinstance(value, numbers.Real) else f" (of type {type(value).__name__})"
    )
    return ValueError(
        f"`{name}` must be {wanted}. Received: {name}={short(value)}{kind}"
    )


def number(
    name: str, value: Any, wanted: str, fits: Callable[[float], bool] = lambda x: True
) -> float:
    """A number as a float, finite in float32, in which all are computed with.

    Args:
        name: Name of the argument.
        value: What was given for it. Booleans, strings and arrays are no numbers.
        wanted: What it must be, and where it helps what that means.
        fits: Whether a finite float is in the range.

    Raises:
        ValueError: If it is something else.
    """
    # Compared before it is converted: an int may be too large for a float.
    if not _is_number(value) or not -_LARGEST <= value <= _LARGEST:
        raise refusal(name, value, wanted)
    if not fits(float(value)):
        raise refusal(name, value, wanted)
    return float(value)


def integer(
    name: str,
    value: Any,
    wanted: str,
    least: int | None = None,
    most: int = _LARGEST_INT,
) -> int:
    """A whole number as an int; a float such as 6.0 is one.

    Args:
        name: Name of the argument.
        value: What was given for it.
        wanted: What it must be.
        least: The smallest one allowed, or None.
        most: The largest one, by default that which int32 holds.

    Raises:
        ValueError: If it is something else.
    """
    least = -_LARGEST_INT if least is None else least
    if not _is_number(value) or not least <= value <= most:
        raise refusal(name, value, wanted)
    if value != int(value):
        raise refusal(name, value, wanted)
    return int(value)


def integers(
    name: str,
    value: Any,
    wanted: str,
    least: int | None = None,
    may_be_empty: bool = False,
) -> tuple[int, ...]:
    """A tuple of whole numbers, from a tuple or list; see `integer`.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, (tuple, list)) or not (value or may_be_empty):
        raise refusal(name, value, wanted)
    try:
        return tuple(integer(name, x, wanted, least) for x in value)
    except ValueError:  # it is all of them that the user gave
        raise refusal(name, value, wanted) from None


def one_of(name: str, value: Any, choices: Collection[Any]) -> Any:
    """One of some names.

    Args:
        name: Name of the argument.
        value: What was given for it.
        choices: Strings, and None where that is allowed.

    Raises:
        ValueError: If it is something else.
    """
    known = value is None or isinstance(value, str)  # others may not be comparable
    if not known or value not in choices:
        raise refusal(name, value, f"one of {tuple(choices)}")
    return value


def path(name: str, value: Any) -> Any:
    """A path, as a string or an object of `os.PathLike`.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise refusal(name, value, "a path: a string or a `pathlib.Path`")
    return value


def function(name: str, value: Any, wanted: str) -> Any:
    """What can be called, and is no class.

    Raises:
        ValueError: If it is something else.
    """
    if not callable(value) or isinstance(value, type):
        raise refusal(name, value, wanted)
    return value


def built_model(function: str, model: Any) -> None:
    """Refuses, in the name of a function, what isn't a built Keras model.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            f"`{function}` needs a built Keras model: give a Sequential a "
            "`keras.Input`, and call a subclassed model once on data. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
