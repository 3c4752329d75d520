"""A model of any class with masks in its layers: it trains them, and a file keeps them.

Its class is made when it is needed, of `MaskedModel`, what it is to be trained as (such
as `SCLModel`) and the class that it has. All of these classes go by one registered
name. A file holds the configuration of the model without masks, as its own class writes
it, and which layers have masks: loading makes the stock model and puts them in.
"""

import contextlib
import functools

import keras

from scl_keras.backend.keras_private import track_parameters, use_own_quantize
from scl_keras.graph.walking import walk_inside
from scl_keras.layers.followers import ChannelFollower, connect_followers
from scl_keras.layers.in_place import follow_channels, put_masks
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.masks.settings import MaskSettings
from scl_keras.training.model import SCLModel

_PACKAGE, _NAME = "scl_keras", "MaskedModel"


class MaskedModel(SCLModel):
    """What `sparsify` makes of a model: its own class, with `SCLModel` in front."""

    def __init__(self, *args, **kwargs):
        # `SwitcherModel(model)` is the model, long initialized, and Python initializes
        # what `__new__` returns. `keras.models.clone_model` makes new ones.
        if "built" not in vars(self):
            super().__init__(*args, **kwargs)
            connect_followers(self)

    def get_config(self):
        """The stock model, what it is trained as, and which layers have masks."""
        own = {id(layer) for layer in _masked_in_place(self)}
        settings, followers = [], []
        for number, layer in enumerate(walk_inside(self)):
            if id(layer) not in own:
                continue
            if isinstance(layer, ChannelFollower):
                followers.append(number)
            else:
                _add(settings, layer.mask_settings.get_config(), number)
        with stock_classes(self):
            stock = keras.saving.serialize_keras_object(self)
        stock.pop("compile_config", None)  # it is this model that is compiled
        return {
            "stock": stock,
            "trained_as": keras.saving.get_registered_name(self.trained_as),
            "masks": settings,
            "followers": followers,
            "runtime": self.masks_runtime,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The stock model of a file, with masks put in again."""
        model = keras.saving.deserialize_keras_object(config["stock"], custom_objects)
        layers = walk_inside(model)
        for entry in config["masks"]:
            settings = MaskSettings.from_config(entry["settings"])
            for number in entry["layers"]:
                if not layers[number].built:
                    raise ValueError(
                        f"Layer '{layers[number].name}' has masks in the file, but "
                        "isn't built when its model is made of its configuration. "
                        "Let the model's `build` or `__init__` build it. "
                        f"Received: {layers[number]!r}"
                    )
                put_masks(layers[number], settings)
        for number in config["followers"]:
            follow_channels(layers[number])
        trained_as = keras.saving.get_registered_object(config["trained_as"])
        model = as_masked_model(model, trained_as)
        model.masks_runtime = config["runtime"]
        return model

    def build_from_config(self, config):
        """Builds nothing: the stock model was built by its own configuration."""

    def save(self, filepath, *args, **kwargs):
        """Saves the model, as `keras.Model.save`, but not to the legacy format HDF5.

        Raises:
            ValueError: If it is to be a file of that format.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "Keras loads no masked model from a file of its legacy format. Save "
                "it as `.keras`, or without masks: `with stripped(model): ...`. "
                f"Received: filepath={filepath}"
            )
        super().save(filepath, *args, **kwargs)

    def __reduce__(self):
        """Pickles the model by what its file holds, as Keras does."""
        load, arguments = super().__reduce__()
        # Keras's is a method of the model's class, which pickle couldn't import.
        return getattr(MaskedModel, load.__name__), arguments


keras.saving.register_keras_serializable(_PACKAGE, _NAME)(MaskedModel)


def as_masked_model(model, trained_as=SCLModel):
    """Changes the class of a model, in whose layers masks were put, in place.

    Args:
        model: A built Keras model.
        trained_as: `SCLModel` or a subclass.

    Returns:
        The model.
    """
    if not isinstance(model, MaskedModel):
        model.__class__ = _class_of(type(model), trained_as)
        use_own_quantize(model)
    connect_followers(model)
    for layer in walk_inside(model):
        track_parameters(layer)
    return model


@functools.cache
def _class_of(stock, trained_as):
    bases = [MaskedModel, trained_as, stock]
    # What is a base of another one comes in with it.
    bases = [x for x in bases if not any(issubclass(y, x) for y in bases if y is not x)]
    own = {
        "stock_class": stock,
        "trained_as": trained_as,
        "__module__": stock.__module__,
        "__doc__": stock.__doc__,
    }
    made = type(f"SCL{stock.__name__.removeprefix('SCL')}", tuple(bases), own)
    register = keras.saving.register_keras_serializable(_PACKAGE, _NAME)
    register(made)
    register(MaskedModel)  # the name leads to the base again
    return made


@contextlib.contextmanager
def stock_classes(model):
    """Gives a model and its layers masked in place their own classes for a while."""
    layers = _masked_in_place(model)
    layers += [model] if isinstance(model, MaskedModel) else []
    classes = [type(layer) for layer in layers]
    for layer in layers:
        layer.__class__ = layer.stock_class
    try:
        yield
    finally:
        for layer, masked in zip(layers, classes, strict=True):
            layer.__class__ = masked


def _masked_in_place(model):
    """The layers whose masks were put in, without those of another such model in it."""
    layers = walk_inside(model)[1:]
    others = {
        id(x)
        for other in layers
        if isinstance(other, MaskedModel)
        for x in walk_inside(other)
    }
    return [
        layer
        for layer in layers
        if getattr(layer, "masked_in_place", False) and id(layer) not in others
    ]


def _add(settings, config, number):
    """Notes a layer's number with the settings that it shares with others."""
    for entry in settings:
        if entry["settings"] == config:
            entry["layers"].append(number)
            return
    settings.append({"settings": config, "layers": [number]})


def is_masked(layer):
    """Whether a layer is masked or switched with another one's channels."""
    return isinstance(layer, (MaskedLayer, ChannelFollower))
