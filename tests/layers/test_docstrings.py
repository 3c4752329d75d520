"""The docstrings of all masked layers say the same of what all of them take."""

import inspect

import keras
import pytest

import scl_keras.layers
from scl_keras.layers import MaskedLayer

# Written out in each class, since what reads the source (editors, the documentation)
# doesn't run it. `MaskedLayer` says more of each.
TEMPLATE = """\
Args:
    *args: Arguments of `keras.layers.{stock}`, in its order.
    mask_initializer: Initializer of the mask variables, a number or a name.
    ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`.
    granularity: `"connection"`, `"channel"` or a `Granularity`, as `Block(4)`.
    mask_dtype: Dtype of the mask variables, `"float32"` or `"bfloat16"`.
    **kwargs: Keyword arguments of `keras.layers.{stock}`.
"""
LAYERS = {
    name: value
    for name in scl_keras.layers.__all__
    if inspect.isclass(value := getattr(scl_keras.layers, name))
    and issubclass(value, MaskedLayer)
    and value is not MaskedLayer
}


def arguments_of(text):
    """The block of arguments in a docstring, up to the next section."""
    _, head, rest = inspect.cleandoc(text).partition("Args:\n")
    return head + rest.split("\n\n")[0] + "\n"


def test_layers_are_found():
    assert len(LAYERS) >= 22


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_arguments_are_those_of_the_template(name):
    layer, stock = LAYERS[name], name.removeprefix("Masked")
    assert getattr(keras.layers, stock) is layer.stock_class
    expected = TEMPLATE.format(stock=stock)
    assert arguments_of(vars(layer)["__doc__"]) == expected


def test_the_template_has_what_the_mixin_takes():
    parameters = inspect.signature(MaskedLayer).parameters
    own = [p.name for p in parameters.values() if p.kind == p.KEYWORD_ONLY]
    for text in (TEMPLATE, arguments_of(MaskedLayer.__doc__)):
        lines = [x for x in text.splitlines()[1:] if x[4] != " "]
        named = [line.partition(":")[0].strip() for line in lines]
        assert named == ["*args", *own, "**kwargs"]
