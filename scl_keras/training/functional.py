"""How a subclass of `keras.Model` becomes a functional model, as Keras has it."""

import keras

# Keras exports the class of functional models only through its instances. That
# `FunctionalSCLModel` inherits from it keeps Keras from rewriting the bases of
# `SCLModel` when the first functional one is made, after which subclassing `SCLModel`
# would fail.
Functional = type(keras.Model(*[keras.Input((), name="x")] * 2, name="x"))


def is_functional(args, kwargs):
    """Whether these are the arguments of a functional model, as Keras has it."""
    given = len(args) + ("inputs" in kwargs) + ("outputs" in kwargs)
    return len(args) >= 2 or (given == 2 and "outputs" in kwargs)


def make_functional(cls, stock, functional):
    """Has a class derive from a functional model where it derives from another one.

    Args:
        cls: A subclass of `stock`, whose bases are changed.
        stock: A subclass of `keras.Model`.
        functional: The subclass of it and `Functional` that takes its place.
    """
    for base in cls.__bases__:
        if base is not stock and issubclass(base, stock):
            make_functional(base, stock, functional)
    cls.__bases__ = tuple(
        functional if base is stock else base for base in cls.__bases__
    )
