"""Masks for the layers of any Keras model, put in as it is."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from scl_keras import checks
from scl_keras.conversion.copying import copy_model, pairs_of_layers
from scl_keras.conversion.coverage import is_masked_kernel, kernels_of
from scl_keras.conversion.putting import put_masks_into
from scl_keras.masks.granularity import Granularity
from scl_keras.masks.mask import find_masks
from scl_keras.masks.settings import DEFAULT_MASK_INITIALIZER, MaskSettings
from scl_keras.masks.ste import STE
from scl_keras.targets.check import granularity_for
from scl_keras.training.model import SCLModel
from scl_keras.types import Initializer, Layers


def sparsify(
    model: keras.Model,
    layers: Layers | None = None,
    *,
    mask_initializer: Initializer = DEFAULT_MASK_INITIALIZER,
    ste: str | STE | None = "identity",
    granularity: str
    | Granularity
    | Mapping[Any, Any]
    | Callable[[keras.layers.Layer], Any]
    | None = None,
    runtime: str | None = None,
    mask_dtype: str = "float32",
    copy: bool = False,
    verbose: int = 1,
) -> SCLModel:
    """Puts masks into a model, in place: it becomes an `SCLModel` of its own class.

    Any built Keras model will do: functional, Sequential or subclassed, with layers
    inside custom layers, wrappers, lists and dicts. Nothing is rebuilt. The model and
    the chosen layers change their class to a masked version of it, and keep everything
    else: weights, names, `trainable` flags, methods, a `train_step` of their own. A
    compiled model stays compiled, and its optimizer becomes that of the weights;
    `compile` sets how masks are learned. `strip_masks` is the reverse.

    Layers that already have masks keep them. What can't be masked is printed in a line;
    `unmasked_layers` lists it, too.

    Args:
        model: A built Keras model.
        layers: Which layers to mask: a layer, a layer type, a layer's name, a predicate
            `layer -> bool`, or a list of these. A nested model or a wrapper stands for
            all of its layers. Layers that a layer makes for itself (an `LSTM` its cell,
            attention its projections) are masked with it. By default all that can be
            masked.
        mask_initializer: Initializer of the mask variables, a number or a name.
        ste: `"identity"`, `"leaky_relu"`, `"softplus"` or an `STE`; None for fixed
            masks, which training doesn't change (see `prune` and `GradualPruning`).
        granularity: What one mask variable switches. `"connection"` (default);
            `"channel"`, whole units and filters, including those of the model's
            outputs; or a `Granularity`, such as `Block(4)`, or `NM(2, 4)` for at most
            two of every four. To choose by layer, give a dict by the names or types of
            layers (`"connection"` for the rest), or a function of the layer that holds
            the kernel. In both, None leaves a layer without masks.
        runtime: Instead: what the model will run on, such as `"compact"` or
            `"tflite-dense"`. Each layer gets the granularity that makes it faster
            there, or no masks; `verbose` prints the choice. See `check_target`.
        mask_dtype: Dtype of the mask variables: `"float32"`, or `"bfloat16"`, which
            halves the memory of masks and of their gradients.
        copy: Whether to leave the model as it is, and mask an independent copy, which
            isn't compiled.
        verbose: 1 to print a line on what has no masks, and why; 0 not to.

    Returns:
        The same model, now an `SCLModel`, or the copy.

    Raises:
        ValueError: If the model isn't built; if `layers` or `granularity` names a layer
            that isn't in it or can't be masked; if a kernel can't have the granularity
            asked for; if no layer gains on `runtime`; if `runtime`, `ste` or
            `mask_dtype` is unknown; or, with `copy=True`, if Keras can't copy the
            model.

    Example:

    ```python
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    sparsify(model)
    model.compile("adam", "mse")
    in_blocks = sparsify(dense_model, granularity={keras.layers.Dense: Block(4)})
    ```
    """
    settings = MaskSettings(mask_initializer, ste, mask_dtype=mask_dtype)
    checks.built_model("sparsify", model)
    if ste is None and any(mask.is_learned for mask in find_masks(model)):
        raise ValueError(
            f"Model '{model.name}' has learned masks already, and `sparsify` leaves "
            "masked layers as they are. `fix_masks(model)` fixes its masks. Received: "
            "ste=None"
        )
    if runtime is not None and granularity is not None:
        raise ValueError(
            "`sparsify` takes either `granularity` or `runtime`. Received: "
            f"granularity={granularity!r}, runtime={runtime!r}"
        )
    if copy:
        layers = _in_copy(layers, model, model := copy_model(model))
    if runtime is not None:
        granularity = granularity_for(model, runtime, verbose)
    return put_masks_into(
        model, layers, settings, granularity, runtime=runtime, verbose=verbose
    )


def _in_copy(layers, model, copied):
    """The choice of layers with the layers of a copy in the places of the model's."""
    twins = {id(old): new for old, new in pairs_of_layers(model, copied)}
    several = isinstance(layers, (list, tuple, set))
    found = [
        twins.get(id(x), x) if isinstance(x, keras.layers.Layer) else x
        for x in (layers if several else [layers])
    ]
    return found if several else found[0]


def unmasked_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that hold a kernel (a weight of rank two or more) but no mask.

    Args:
        model: A built Keras model or layer.

    Returns:
        A list of layers, each once.

    Raises:
        ValueError: If it is neither a model nor a layer.

    Example:

    ```python
    [layer.name for layer in unmasked_layers(dense_model)]  # ['dense_1', 'dense_2']
    ```
    """
    if not isinstance(model, keras.layers.Layer):
        raise checks.refusal("model", model, "a Keras model or layer")
    bare = [x for x, v in kernels_of(model) if not is_masked_kernel(x, v)]
    return list({id(layer): layer for layer in bare}.values())
