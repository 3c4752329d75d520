"""The types of Keras layers that a rule is for."""

from keras import layers


def layers_named(*names):
    """The Keras layers of these names that the installed Keras has."""
    return [getattr(layers, name) for name in names if hasattr(layers, name)]


def layers_of_ranks(name, ranks=(1, 2, 3)):
    """The Keras layers of a name with the rank left out, such as `"Conv{}D"`."""
    return layers_named(*(name.format(rank) for rank in ranks))
