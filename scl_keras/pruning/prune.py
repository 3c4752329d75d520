"""Pruning of a model with one call."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from scl_keras import checks
from scl_keras.conversion.copying import copy_model
from scl_keras.conversion.sparsify import sparsify
from scl_keras.conversion.strip import fix_masks, strip_masks
from scl_keras.graph.inputs import sized_inputs
from scl_keras.graph.walking import is_graph
from scl_keras.masks.density import target_density
from scl_keras.masks.mask import find_masks
from scl_keras.pruning.data import with_end
from scl_keras.pruning.effective import DisconnectedError, search_effective, total
from scl_keras.pruning.methods import PruningMethod, get_method
from scl_keras.pruning.network import PrunableNetwork
from scl_keras.pruning.paths import Paths, methods_with_paths
from scl_keras.pruning.quotas import get_quotas
from scl_keras.pruning.ranking import keep_best, ranking, ranks
from scl_keras.training.model import SCLModel
from scl_keras.types import Layers, Quotas


def prune(
    model: keras.Model,
    method: str | PruningMethod = "lamp",
    sparsity: float | None = None,
    compression: float | None = None,
    *,
    quotas: str | Quotas | Callable[..., Any] | None = None,
    effective: bool = False,
    data: Any = None,
    steps: int | None = None,
    loss: Any = None,
    layers: Layers | None = None,
    granularity: Any = None,
    input_shapes: Sequence[Any] | None = None,
    copy: bool = False,
    verbose: int = 1,
) -> SCLModel:
    """Prunes a model, in place: it keeps the connections that score best.

    Like `sparsify`, this makes the model an `SCLModel` of its own class, but its masks
    are fixed. However it is compiled, and also after saving and loading, training
    fine-tunes the weights of the connections that are left.

    Sparsity counts all kernels that have a mask. In a model with masked layers, what is
    already cut stays cut, and counts.

    Args:
        model: A built Keras model, stock or with masked layers. It stays as it is if
            pruning fails.
        method: `"lamp"` (magnitudes within each kernel, so that none is cut off),
            `"magnitude"`, `"snip"`, `"iterative_snip"`, `"synflow"`, `"random"` or a
            `PruningMethod`.
        sparsity: Float in [0, 1), the share of connections to cut.
        compression: Instead: number of connections over number kept, at least 1. Masks
            of the granularity `NM` need neither: by default they cut what their groups
            require, and no more.
        quotas: How many connections each kernel keeps: `"uniform"`, `"uniform_plus"`,
            `"erk"`, `"igq"`, or quotas of one's own (see
            `scl_keras.pruning.get_quotas`). By default connections of all kernels are
            ranked together.
        effective: Whether `sparsity` and `compression` count only connections on a path
            from an input to an output (Vysogorets & Kempe, arXiv 2107.02306). A search
            then finds how far down the ranking to go. What isn't effective is cut, too.
        data: For methods that need data: `(x, y)` arrays, taken in batches of 256, or a
            `tf.data.Dataset` or another iterable of such batches. Each round of a
            method goes over all of it.
        steps: Number of batches to take of `data` at most. Needed if `data` doesn't
            tell its length, as a generator, or repeats forever.
        loss: For methods that need data: as for `compile`. By default the loss that the
            model is compiled with.
        layers: Which layers of a stock model to prune, as for `sparsify`.
        granularity: How a stock model's connections are cut, as for `sparsify`:
            `"connection"` (default), or `NM(2, 4)` for at most two of every four, which
            means a sparsity of a half or more. In each group those that score best can
            be kept. Methods with rounds choose them before the first round.
        input_shapes: Shapes of the inputs without the batch axis, if the model leaves
            sizes open: effective connections and SynFlow depend on them. Without it,
            the check that a path is left uses sizes that the layers accept.
        copy: Whether to leave the model as it is, and prune an independent copy, which
            isn't compiled.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        The same model, or the copy. A compiled model stays compiled.

    Raises:
        ValueError: If the model isn't built, an argument is out of its range, quotas
            can't be met, `granularity` allows fewer connections than are to be kept or
            switches several together, `data` doesn't fit, or Keras can't copy the
            model.
        DisconnectedError: A `ValueError`, if no path from the inputs to the outputs
            would be left, or fewer connections are effective than asked for.

    Warns:
        UserWarning: If it can't tell whether a path is left: the model has a `call`
            that can't be followed, or leaves sizes open and takes none of those that
            are tried.

    Example:

    ```python
    model.fit(x, y, epochs=5)
    pruned = prune(model, compression=10)
    pruned.compile("adam", "mse")
    pruned.fit(x, y, epochs=5)
    two_of_four = prune(dense_model, granularity=NM(2, 4), copy=True)
    ```
    """
    checks.built_model("prune", model)
    density = None
    if sparsity is not None or compression is not None:
        density = target_density("prune", sparsity, compression)
    method = get_method(method)
    quotas = None if quotas is None else get_quotas(quotas)
    loss, loss_weights = _loss_of(model, loss)
    data = None if data is None else with_end(data, steps)
    if input_shapes is not None and is_graph(model):
        sized_inputs(model, input_shapes)  # refuses those that don't fit
    model = copy_model(model) if copy else model
    was_masked = bool(find_masks(model))
    for name, value in (("layers", layers), ("granularity", granularity)):
        if was_masked and value is not None:
            raise ValueError(
                f"Model '{model.name}' has masked layers already: those are pruned, "
                f"and `{name}` is for stock models. Received: "
                f"{name}={checks.short(value)}"
            )
    if not was_masked:
        sparsify(model, layers, ste=None, granularity=granularity, verbose=verbose)
    before = [(mask, mask.values()) for mask in find_masks(model)]
    try:
        network = PrunableNetwork(model, data, loss, loss_weights, input_shapes)
        masks = _masks(network, method, density, quotas, effective, verbose)
        network.keep(masks)
        if not effective or not total(masks):  # what is effective is on a path
            _check_connected(network, masks, method)
    except BaseException:
        for mask, values in before:
            mask.variable.assign(values)
        if not was_masked:
            strip_masks(model)
        raise
    return fix_masks(model) if was_masked else model


def _masks(network, method, density, quotas, effective, verbose):
    """What to keep of a network: a list of boolean arrays, one a kernel."""
    candidates = network.kept()
    if network.capacity < network.size and method.rounds > 1:
        candidates = network.admitted(_scores(network, method), candidates)
    count = _count(network, density, candidates)
    scores = _rank(network, method, count, quotas, candidates, verbose)
    candidates = network.admitted(scores, candidates)
    if effective and density is None:
        return network.effective(candidates)
    if effective:
        order = ranking(scores, candidates, quotas)
        return search_effective(network, order, count, verbose)
    return keep_best(scores, count, quotas, candidates)


def _check_connected(network, masks, method):
    """Refuses masks that leave no path, and warns where that can't be told."""
    paths = Paths(network)
    left = paths.are_left(masks)
    if left:
        return
    if left is None:
        warnings.warn(
            "`prune` can't tell whether a path is left from the inputs of model "
            f"'{network.model.name}' to its outputs. {paths.empty_in_words(masks)} "
            f"({paths.problem})",
            stacklevel=3,
        )
        return
    raise DisconnectedError(
        f"With {total(masks)} of {network.size} connections no path is left from "
        f"the inputs of model '{network.model.name}' to its outputs. Take the method "
        f"{methods_with_paths(method)}, or quotas such as 'erk', which leave something "
        "of each kernel; or ask for `effective=True`, or for less sparsity. "
        f"{paths.empty_in_words(masks)}"
    )


def _loss_of(model, loss):
    if loss is not None or not model.compiled:
        return loss, None
    config = model.get_compile_config() or {}
    return model.loss, config.get("loss_weights")


def _count(network, density, candidates):
    same = [np.zeros(shape) for shape in network.shapes]
    left = total(network.admitted(same, candidates))
    if density is None and network.capacity == network.size:
        target_density("prune", None, None)  # says what is missing
    count = left if density is None else round(density * network.size)
    if count < 1:
        raise ValueError(
            f"A density of {density:.3g} leaves none of {network.size} connections. "
            "Ask for less sparsity."
        )
    if count > network.capacity:
        kinds = {str(k.mask.granularity) for k in network.kernels}
        least = 1 - network.capacity / network.size
        raise ValueError(
            f"{count} of {network.size} connections were asked for, but masks of the "
            f"granularity {', '.join(sorted(kinds - {'connection'}))} keep at most "
            f"{network.capacity}. Ask for a sparsity of {least:.4g} or more, or for "
            f"none: that is what they cut. Received: a sparsity of {1 - density:.4g}"
        )
    if count > left:
        raise ValueError(
            f"{count} of {network.size} connections were asked for, but only {left} "
            "are left: what is cut stays cut. Ask for more sparsity."
        )
    return count


def _rank(network, method, count, quotas, candidates, verbose):
    """Scores that rank the candidates, after all of the method's rounds.

    The masks are afterwards as they were before.
    """
    if method.rounds == 1:
        return _scores(network, method)
    before, kept = network.kept(), candidates
    start = total(kept)
    network.keep(kept)
    worth = [np.zeros(shape) for shape in network.shapes]
    cut_in = [np.zeros(shape, int) for shape in network.shapes]
    title = type(method).__name__
    rounds = range(1, method.rounds + 1)
    for i in tqdm(rounds, title, disable=not verbose, leave=False):
        share = i / method.rounds
        number = round(start ** (1 - share) * count**share)
        scores = _scores(network, method)
        masks = keep_best(scores, max(number, count), quotas, kept)
        for w, c, s, k in zip(worth, cut_in, scores, kept, strict=True):
            w[k], c[k] = s[k], i
        for c, m in zip(cut_in, masks, strict=True):
            c[m] = method.rounds + 1
        kept = masks
        network.keep(masks)
    network.keep(before)
    return ranks(worth, cut_in)


def _scores(network, method):
    scores = [np.asarray(s) for s in method.scores(network)]
    if [s.shape for s in scores] != network.shapes:
        raise ValueError(
            f"{method!r} must give scores of the kernels' shapes {network.shapes}. "
            f"Received: shapes {[s.shape for s in scores]}"
        )
    return scores
