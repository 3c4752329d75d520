"""From a stock Keras model to an SCL model, and back."""

import keras

from scl_keras.conversion.choices import granularity_selector, layer_selector
from scl_keras.conversion.copying import copy_layer
from scl_keras.conversion.rebuilding import as_scl_model, check_graph, rebuild
from scl_keras.graph.walking import (
    is_graph,
    is_rewired,
    sublayers,
    walk,
    walk_inside,
    walk_layers,
    wrapped_layers,
)
from scl_keras.layers.followers import FOLLOWERS, ChannelFollower, chains
from scl_keras.layers.masked_layer import (
    DEFAULT_MASK_INITIALIZER,
    MaskedLayer,
    masked_class_of,
    masked_copy,
)
from scl_keras.masks import granularity as granularities
from scl_keras.masks import ste as estimators
from scl_keras.masks.mask import find_masks, get_dtype, get_initializer


def sparsify(
    model,
    layers=None,
    *,
    mask_initializer=DEFAULT_MASK_INITIALIZER,
    ste="identity",
    granularity=None,
    target=None,
    mask_dtype="float32",
):
    """Makes an `SCLModel` of a stock model: same weights, outputs and names.

    Layers that can't be masked stay as they are, and so do those that are masked
    already; `unmasked_layers` lists the former. Nested
    models and wrappers are entered, shared layers stay shared (but for one that stands
    in a wrapper and elsewhere: as in a Keras file, it becomes two), and `model` itself
    isn't touched. What a subclass of `keras.Model` overrides, such as `train_step`,
    isn't taken over: derive it from `SCLModel` for that.

    Args:
        model: A built functional or Sequential Keras model.
        layers: Which layers to mask: a layer, a layer type, a layer's name, a predicate
            `layer -> bool`, or a list of these. A nested model or a wrapper stands for
            all of its layers. Layers that a layer makes for itself (an `LSTM` its cell,
            attention its projections) go with it. By default all that can be.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`; None for fixed
            masks, which training doesn't change (see `prune` and `GradualPruning`).
        granularity: What one mask variable switches: `"connection"`, `"channel"` (whole
            units and filters, those of the model's outputs too) or a `Granularity` such
            as `Block(4)`. For each layer another one: a dict by the names or types of
            layers (`"connection"` for the rest), or a function of the layer, in both of
            which None leaves a layer without masks. By default `"connection"`.
        target: Instead: what the model is made for, such as `"compact"` or
            `"tflite-dense"`. Each layer gets the granularity that makes it faster
            there, or no masks; the choice is printed. See `check_target`.
        mask_dtype: Dtype of the mask variables: `"float32"`, or `"bfloat16"`, which
            halves the memory of them and of their gradients.

    Returns:
        An `SCLModel`, not compiled.

    Raises:
        ValueError: If the model is unbuilt or subclassed, if `layers` or `granularity`
            names a layer, or has one, that isn't in it, if a kernel can't have the
            granularity asked for, if no layer gains on `target`, or if another argument
            is something else.

    Example:

    ```python
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    sparse = sparsify(model)
    sparse.compile("adam", "mse")
    in_blocks = sparsify(model, granularity={keras.layers.Dense: Block(4)})
    ```
    """
    check_graph(model, "sparsify")
    mask_initializer, ste = get_initializer(mask_initializer), estimators.get(ste)
    if ste is None and any(mask.is_learned for mask in find_masks(model)):
        raise ValueError(
            f"Model '{model.name}' has learned masks already, and `sparsify` leaves "
            "masked layers as they are. `fix_masks(model)` fixes its masks. Received: "
            "ste=None"
        )
    mask_dtype = get_dtype(mask_dtype)
    chosen = layer_selector(layers, model)
    granularity_of = granularity_selector(granularity, target, model)

    def masked(layer):
        """What a layer's masks switch, or None for a layer without masks."""
        # A layer with a masked twin masks all that is inside of it.
        can_be = masked_class_of(layer) and any(chosen(x) for x in walk_layers(layer))
        if not can_be or any(is_rewired(x) for x in walk_inside(layer)):
            return None
        return granularity_of(layer)

    def convert(layer):
        if is_graph(layer):  # in a wrapper
            return rebuild(layer, convert, {})
        if (switched := masked(layer)) is not None:
            return masked_copy(layer, mask_initializer, ste, switched, mask_dtype)
        if id(layer) in followers:
            return copy_layer(layer, convert, FOLLOWERS[type(layer)])
        return copy_layer(layer, convert)

    followers = _followers(model, masked)
    return as_scl_model(rebuild(model, convert, {}))


def _followers(model, masked):
    """Ids of the layers that are switched with the channels of a masked one."""
    return {
        id(follower)
        for layer, behind in chains(model)
        if all(type(x) in FOLLOWERS for x in behind)
        and isinstance(masked(layer), granularities.Channel)
        and masked(layer).axes is None
        for follower in behind
    }


def fix_masks(model):
    """Copies a model with masked layers, with masks that training doesn't change.

    They are those that it has now. The copy's masks are no trainable variables,
    whatever it is compiled with, also when it is saved and loaded or cloned.

    Args:
        model: A functional or Sequential model with masked layers.

    Returns:
        An `SCLModel` with the same weights, masks, outputs and names, not compiled.

    Raises:
        ValueError: If the model is unbuilt or subclassed, or has no masked layer.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[TargetSparsity(0.98)])
    ticket = fix_masks(model)
    ```
    """
    check_graph(model, "fix_masks")
    if not find_masks(model):
        raise ValueError(
            f"Model '{model.name}' has no masked layer. `sparsify(model, ste=None)` "
            "makes a model with fixed masks of a stock one."
        )

    def convert(layer):
        if is_graph(layer):  # in a wrapper
            return rebuild(layer, convert, {})
        config = layer.get_config()
        if isinstance(layer, MaskedLayer):
            config["ste"] = None
        return copy_layer(layer, convert, config=config)

    return as_scl_model(rebuild(model, convert, {}))


def strip_masks(model):
    """Makes a stock Keras model of an SCL model, with zeros in its kernels.

    Args:
        model: A functional or Sequential model with masked layers, trained or not.

    Returns:
        A functional (or Sequential) Keras model with the same outputs, names and
        weights `v * H(s)`, which loads without this package. Not compiled.

    Raises:
        ValueError: If the model is unbuilt or subclassed, or has a masked layer inside
            of a layer that makes it for itself and has no masked twin.

    Example:

    ```python
    strip_masks(model).save("stock.keras")
    ```
    """
    check_graph(model, "strip_masks")

    def convert(layer):
        if is_graph(layer):  # in a wrapper
            return rebuild(layer, convert, {})
        if isinstance(layer, ChannelFollower):
            return copy_layer(layer, convert, layer.stock_class)
        if not isinstance(layer, MaskedLayer):
            return copy_layer(layer, convert)
        if "stock_class" not in vars(type(layer)):
            raise ValueError(
                "`strip_masks` doesn't know the stock layer of a subclass of a masked "
                "layer. Subclass the stock layer, and give it a masked twin (see "
                f"`MaskedLayer`). Received: {layer!r}"
            )
        config = layer.stock_class.get_config(layer)
        for merged in ("lora_rank", "lora_alpha"):  # into the kernel
            config.pop(merged, None)
        return copy_layer(layer, convert, layer.stock_class, config)

    copy = rebuild(model, convert, {})
    if masks := find_masks(copy):
        raise ValueError(
            "`strip_masks` can't replace a masked layer inside of a layer that makes "
            "it for itself. Let that layer make stock layers, and give it a masked "
            "twin (see `MaskedLayer`). "
            f"Received: masks {', '.join(mask.path for mask in masks)}"
        )
    return copy


def unmasked_layers(model):
    """The layers that hold a kernel (a weight of rank two or more) but no mask.

    Args:
        model: A built Keras model or layer.

    Returns:
        A list of layers, each once. For layers inside of one that can't be taken apart
        it stands as a whole.

    Example:

    ```python
    [layer.name for layer in unmasked_layers(dense_model)]  # ['dense_1', 'dense_2']
    ```
    """
    return [layer for layer in walk(model, _parts) if _holds_unmasked_kernel(layer)]


def _parts(layer):
    """The layers inside that can be masked each for itself, or should be already."""
    whole = isinstance(layer, (MaskedLayer, keras.Model))
    return sublayers(layer) if whole else wrapped_layers(layer)


def _holds_unmasked_kernel(layer):
    if isinstance(layer, (MaskedLayer, keras.Model)):
        return False
    inner = {id(w) for x in wrapped_layers(layer) for w in x.weights}
    return any(
        len(weight.shape) >= 2
        for weight in getattr(layer, "weights", [])
        if id(weight) not in inner and not hasattr(weight, "connection_mask")
    )
