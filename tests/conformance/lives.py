"""What is done with a model of others: compiled, masked, trained."""

import contextlib
import dataclasses
import io

import keras
import numpy as np
from keras import ops
from models import CASES

from scl_keras import TargetSparsity, find_masks, sparsify

SPARSITY, BATCH_SIZE = 0.8, 4


def outputs(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def labels(model, x):
    """A class for each position of the output."""
    shape = outputs(model, x).shape
    return np.random.default_rng(1).integers(0, shape[-1], shape[:-1])


def compiled(model, **kwargs):
    if hasattr(model, "generate"):
        kwargs["sampler"] = "greedy"
    else:
        kwargs["metrics"] = ["sparse_categorical_accuracy"]
    if keras.backend.backend() == "tensorflow":
        kwargs["jit_compile"] = False  # XLA takes several times as long
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, **kwargs)
    return model


def fit(model, x, y, **kwargs):
    return model.fit(x, y, batch_size=BATCH_SIZE, shuffle=False, verbose=0, **kwargs)


def generated(model, x):
    """What a model that reads tokens writes after the first three."""
    prompt = {
        "token_ids": x["token_ids"],
        "padding_mask": np.zeros_like(x["token_ids"]),
    }
    prompt["padding_mask"][:, :3] = 1
    found = model.generate(prompt, stop_token_ids=None)
    return ops.convert_to_numpy(found["token_ids"])


def cut_at_random(model, share=0.5, seed=0):
    rng = np.random.default_rng(seed)
    for mask in find_masks(model):
        kept = rng.random(mask.variable.shape) < share
        mask.variable.assign(np.where(kept, 1.0, -1.0))


def mask_values(model):
    return [ops.convert_to_numpy(mask.variable) for mask in find_masks(model)]


def sizes_of_inputs(model, x):
    """`input_shapes` of a model that leaves sizes open, otherwise None."""
    inputs = getattr(model, "inputs", None) or []
    if any(None in tensor.shape[1:] for tensor in inputs):
        return [array.shape[1:] for array in keras.tree.flatten(x)]
    return None


@dataclasses.dataclass(frozen=True)
class Life:
    """A compiled model, masked and trained to `SPARSITY`.

    Attributes:
        case: The `Case`.
        stock_class: Its class before.
        model: The model.
        x: A batch of inputs.
        y: Labels for it.
        before: Outputs without masks.
        after: Outputs with masks that keep all.
        printed: What `sparsify` printed.
        history: Logs of its training.
    """

    case: object
    stock_class: type
    model: keras.Model
    x: object
    y: np.ndarray
    before: np.ndarray
    after: np.ndarray
    printed: str
    history: dict


def live(name):
    keras.utils.set_random_seed(0)
    case = CASES[name]
    stock = compiled(case.build())
    stock_class = type(stock)
    x = case.inputs(np.random.default_rng(0))
    before, y = outputs(stock, x), labels(stock, x)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        model = sparsify(stock)
    assert model is stock
    after = outputs(model, x)
    history = fit(model, x, y, epochs=3, callbacks=[TargetSparsity(SPARSITY)]).history
    return Life(
        case,
        stock_class,
        model,
        x,
        y,
        before,
        after,
        printed.getvalue(),
        history,
    )
