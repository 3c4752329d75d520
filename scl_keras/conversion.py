"""From a stock Keras model to an SCL model, and back."""

import keras

from scl_keras import granularity as granularities
from scl_keras import step
from scl_keras.copying import copy_layer
from scl_keras.graph import (
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
from scl_keras.masks import find_masks, get_initializer
from scl_keras.state import copy_state
from scl_keras.training import SCLModel


def sparsify(
    model,
    layers=None,
    *,
    mask_initializer=DEFAULT_MASK_INITIALIZER,
    ste="identity",
    granularity=None,
    target=None,
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
    _check_graph(model, "sparsify")
    mask_initializer, ste = get_initializer(mask_initializer), step.get(ste)
    if ste is None and any(mask.is_learned for mask in find_masks(model)):
        raise ValueError(
            f"Model '{model.name}' has learned masks already, and `sparsify` leaves "
            "masked layers as they are. `fix_masks(model)` fixes its masks. Received: "
            "ste=None"
        )
    chosen = _selector(layers, model)
    granularity_of = _granularities(granularity, target, model)

    def masked(layer):
        """What a layer's masks switch, or None for a layer without masks."""
        # A layer with a masked twin masks all that is inside of it.
        can_be = masked_class_of(layer) and any(chosen(x) for x in walk_layers(layer))
        if not can_be or any(is_rewired(x) for x in walk_inside(layer)):
            return None
        return granularity_of(layer)

    def convert(layer):
        if is_graph(layer):  # in a wrapper
            return _rebuild(layer, convert, {})
        if (switched := masked(layer)) is not None:
            return masked_copy(layer, mask_initializer, ste, switched)
        if id(layer) in followers:
            return copy_layer(layer, convert, FOLLOWERS[type(layer)])
        return copy_layer(layer, convert)

    followers = _followers(model, masked)
    return _as_scl_model(_rebuild(model, convert, {}))


def _granularities(granularity, target, model):
    """A function from a layer to a `Granularity`, or None for no masks."""
    if target is not None:
        if granularity is not None:
            raise ValueError(
                "`sparsify` takes either `granularity` or `target`. Received: "
                f"granularity={granularity!r}, target={target!r}"
            )
        return _for_target(model, target)
    granularity = "connection" if granularity is None else granularity
    if isinstance(granularity, dict) and "class_name" not in granularity:
        known = {layer.name for layer in walk_layers(model)}
        for key in granularity:
            if key not in known and not isinstance(key, type):
                raise ValueError(
                    f"`granularity` names {key!r}, which is no layer of "
                    f"'{model.name}'. Its layers are: {', '.join(sorted(known))}"
                )
        chosen = granularity

        def granularity(layer):
            types = [x for x in chosen if isinstance(x, type) and isinstance(layer, x)]
            found = [x for x in (layer.name, *types) if x in chosen]
            return chosen[found[0]] if found else "connection"

    of = granularity if callable(granularity) else lambda layer: granularity
    if not callable(granularity):
        granularities.get(granularity)  # bad ones fail early

    def granularity_of(layer):
        found = of(layer)
        return None if found is None else granularities.get(found)

    return granularity_of


def _for_target(model, target):
    from scl_keras.targets.check import plan_for_target  # it needs this module

    check, granularity_of = plan_for_target(model, target)
    if not any(row.granularity for row in check.rows):
        raise ValueError(f"No layer of '{model.name}' gains on {target!r}:\n{check}")
    print(check)
    return granularity_of


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
    model.fit(x, y, epochs=30, callbacks=[TargetSparsity(0.98)])
    ticket = fix_masks(model)
    ```
    """
    _check_graph(model, "fix_masks")
    if not find_masks(model):
        raise ValueError(
            f"Model '{model.name}' has no masked layer. `sparsify(model, ste=None)` "
            "makes a model with fixed masks of a stock one."
        )

    def convert(layer):
        if is_graph(layer):  # in a wrapper
            return _rebuild(layer, convert, {})
        config = layer.get_config()
        if isinstance(layer, MaskedLayer):
            config["ste"] = None
        return copy_layer(layer, convert, config=config)

    return _as_scl_model(_rebuild(model, convert, {}))


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
    strip_masks(sparse_model).save("stock.keras")
    ```
    """
    _check_graph(model, "strip_masks")

    def convert(layer):
        if is_graph(layer):  # in a wrapper
            return _rebuild(layer, convert, {})
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

    copy = _rebuild(model, convert, {})
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


def _as_scl_model(copy):
    if isinstance(copy, keras.Sequential):  # one input, and `input` is not its own
        outputs = copy.outputs if len(copy.outputs) > 1 else copy.outputs[0]
        return SCLModel(copy.inputs[0], outputs, name=copy.name)
    return SCLModel(copy.input, copy.output, name=copy.name)


def _check_graph(model, function):
    if not isinstance(model, keras.Model) or not is_graph(model):
        kind = type(model).__name__
        raise ValueError(
            f"`{function}` needs a built functional or Sequential Keras model. Build a "
            "Sequential with a `keras.Input`; derive a subclassed model from "
            "`SCLModel`, and use masked layers in it. "
            f"Received: {model!r} (of type {kind})"
        )


def _selector(layers, model):
    """A predicate from the many ways to name layers."""
    if layers is None:
        return lambda layer: True
    choices = layers if isinstance(layers, (list, tuple, set)) else [layers]
    known = list(walk_layers(model))
    names = {layer.name for layer in known}
    for choice in choices:
        if isinstance(choice, str) and choice not in names:
            raise ValueError(
                f"`layers` names '{choice}', which is no layer of '{model.name}'. Its "
                f"layers are: {', '.join(sorted(names))}"
            )
        if not callable(choice) and not isinstance(choice, str):
            raise ValueError(
                "`layers` takes layers, layer types, names and predicates. Received: "
                f"{choice!r} (of type {type(choice).__name__})"
            )
        if isinstance(choice, keras.layers.Layer) and choice not in known:
            raise ValueError(
                f"`layers` has a layer that is none of '{model.name}'. "
                f"Received: {choice!r}"
            )

    def matches(layer, choice):
        if isinstance(choice, str):
            return layer.name == choice
        if isinstance(choice, type):
            return isinstance(layer, choice)
        if isinstance(choice, keras.layers.Layer):
            return layer is choice
        return bool(choice(layer))

    # A model or wrapper stands for all of its layers, unless a predicate looks at each.
    whole = [x for x in choices if isinstance(x, (str, type, keras.layers.Layer))]
    inside = {
        id(inner)
        for outer in known
        if any(matches(outer, choice) for choice in whole)
        for inner in walk_layers(outer)
    }
    return lambda layer: (
        id(layer) in inside or any(matches(layer, choice) for choice in choices)
    )


def _rebuild(model, convert, done):
    """Clones a graph with each layer converted, and copies weights and state over.

    `done` maps the ids of layers to their copies, so that what is shared stays shared.
    """

    def clone(layer):
        if id(layer) not in done:
            if is_graph(layer):
                done[id(layer)] = _rebuild(layer, convert, done)
            else:
                done[id(layer)] = convert(layer)
                pairs.append((layer, done[id(layer)]))
        return done[id(layer)]

    pairs = []
    if isinstance(model, keras.Sequential):
        inputs = _input_like(model.inputs[0])
        layers = [inputs, *map(clone, model.layers)]
        copy = keras.Sequential(layers, name=model.name)
    else:
        # A new model around the same graph: cloning a compiled one compiles the clone.
        graph = keras.Model(model.input, model.output, name=model.name)
        inputs = keras.tree.map_structure(_input_like, model.input)
        copy = keras.models.clone_model(graph, inputs, clone_function=clone)
    for old, new in pairs:
        if isinstance(old, keras.layers.Layer):
            copy_state(old, new)
    return copy


def _input_like(tensor):
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=tensor.name,
    )
