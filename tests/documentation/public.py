"""Everything that users may import, by its names."""

import importlib
import inspect

MODULES = (
    "scl_keras",
    "scl_keras.architectures",
    "scl_keras.callbacks",
    "scl_keras.connectivity",
    "scl_keras.conversion",
    "scl_keras.datasets",
    "scl_keras.export",
    "scl_keras.layers",
    "scl_keras.masks",
    "scl_keras.pipeline",
    "scl_keras.pruning",
    "scl_keras.report",
    "scl_keras.report.plotting",
    "scl_keras.switcher",
    "scl_keras.targets",
    "scl_keras.training",
    "scl_keras.zoo",
)


def public_names():
    """Dict of the public names of each module: objects by `module.name`."""
    return {
        f"{name}.{key}": getattr(importlib.import_module(name), key)
        for name in MODULES
        for key in importlib.import_module(name).__all__
    }


def public_objects():
    """The public classes and functions, each once: objects by module and name."""
    found = {}
    for value in public_names().values():
        if inspect.isclass(value) or inspect.isroutine(value):
            found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def members(value):
    """The public methods and properties that a class of this package defines."""
    if not inspect.isclass(value):
        return {}
    return {
        name: attribute
        for base in reversed(value.__mro__)
        if base.__module__.startswith("scl_keras")
        for name, attribute in vars(base).items()
        if not name.startswith("_")
        and (
            inspect.isroutine(attribute)
            or isinstance(attribute, (property, classmethod, staticmethod))
        )
    }
