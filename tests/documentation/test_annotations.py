"""The public API is annotated, since `py.typed` says so. (mypy checks what it says.)"""

import functools
import inspect
import pathlib
import typing

import pytest

import scl_keras

from .public import public_objects

PACKAGE = pathlib.Path(scl_keras.__file__).parent
SPECIAL = ("__init__", "__call__")


def functions_of(value):
    """The public functions of an object that this package wrote, by name."""
    if not inspect.isclass(value):
        return {value.__qualname__: inspect.unwrap(value)}
    attributes = {
        f"{base.__qualname__}.{name}": attribute
        for base in value.__mro__
        for name, attribute in vars(base).items()
        if not name.startswith("_") or name in SPECIAL
    }
    functions = {name: function_of(x) for name, x in attributes.items()}
    return {name: f for name, f in functions.items() if f is not None and is_own(f)}


def function_of(attribute):
    """The function behind an attribute of a class, or None."""
    if isinstance(attribute, property):
        attribute = attribute.fget
    elif isinstance(attribute, functools.cached_property):
        attribute = attribute.func
    elif isinstance(attribute, (classmethod, staticmethod)):
        attribute = attribute.__func__
    # A masked layer's `build` and `call` wrap those of the stock layer.
    return inspect.unwrap(attribute) if inspect.isroutine(attribute) else None


def is_own(function):
    """Whether a function is written out in a file of the package."""
    code = getattr(function, "__code__", None)
    return code is not None and PACKAGE in pathlib.Path(code.co_filename).parents


def missing(function):
    """What a function leaves open: names of parameters, and "return"."""
    # As it is written, whatever `__signature__` it shows.
    code, found = function.__code__, function.__annotations__
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS)
    count += bool(code.co_flags & inspect.CO_VARKEYWORDS)
    names = [n for n in code.co_varnames[:count] if n not in ("self", "cls")]
    return [name for name in (*names, "return") if name not in found]


FUNCTIONS = {
    f"{function.__module__}.{name}": function
    for value in public_objects().values()
    for name, function in functions_of(value).items()
}


def test_functions_are_found():
    assert len(FUNCTIONS) > 250


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_all_is_annotated(name):
    assert missing(FUNCTIONS[name]) == []
    typing.get_type_hints(FUNCTIONS[name])  # all that is named is there


def test_what_is_missing_is_found():
    def function(self, a, b: int, *args, c=1, **kwargs: int):
        pass

    assert missing(function) == ["a", "c", "args", "return"]
