"""The code of the README and of docs/, run page by page as it stands.

Each block that names `my_keras_model` gets a new one: masks go into it in place.
"""

import ast
import warnings

import keras
import numpy as np
import pytest

from scl_keras.datasets import load_dataset

from .blocks import ROOT, blocks_of, run

PAGES = ["README.md"]
PAGES += sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))
# How many Python blocks of a page aren't run. Each says why in front of it.
NOT_RUN = {
    "README.md": 1,
    "docs/extending.md": 2,
    "docs/hard_cases.md": 1,
    "docs/scale_out.md": 1,
}
# Many trainings, or exports.
SLOW = {"README.md"}
SLOW |= {
    f"docs/{x}.md"
    for x in (
        *("command_line", "compress", "export", "extending", "from_tfmot"),
        *("hard_cases", "index", "phone", "transfer_learning"),
    )
}


def my_keras_model():
    """A network of a convolution and two dense layers."""
    inputs = keras.Input((8, 8, 1), name="image")
    features = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    flat = keras.layers.Flatten()(features)
    hidden = keras.layers.Dense(16, "relu", name="hidden")(flat)
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(hidden))


def my_tf_keras_model():
    """A network of TFMOT's Keras."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization  # noqa: F401
        import tf_keras
    dense = tf_keras.layers.Dense
    layers = [tf_keras.layers.Flatten(input_shape=(8, 8, 1)), dense(16), dense(10)]
    return tf_keras.Sequential(layers)


def given(code):
    """What pages take as given; only what `code` names, since some of it is slow."""
    data = load_dataset("digits")
    n = 64
    values = {
        "x": data.x_train[:n],
        "y": data.y_train[:n],
        "x_test": data.x_test[:n],
        "y_test": data.y_test[:n],
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    if "my_tf_keras_model" in code:
        values["my_tf_keras_model"] = my_tf_keras_model()
    return values


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TFMOT
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] * (p in SLOW)) for p in PAGES],
)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text()
    blocks = [b for b in blocks_of(text) if b.language == "python"]
    assert sum(b.reason is not None for b in blocks) == NOT_RUN.get(page, 0)
    namespace = given(text) | {"__name__": page}
    policy = keras.config.dtype_policy()
    try:
        for block in blocks:
            if "my_keras_model" in block.code:
                namespace["my_keras_model"] = my_keras_model()
            if block.reason is None:
                run(block, namespace, page)
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("page", PAGES)
def test_no_block_hides(page):
    """All blocks are found, each in a language, and each comment has its block."""
    text = (ROOT / page).read_text()
    blocks = blocks_of(text)
    assert 2 * len(blocks) == sum(
        line.lstrip().startswith("```") for line in text.splitlines()
    )
    assert {b.language for b in blocks} <= {"python", "bash"}
    assert text.count("<!-- not run") == sum(b.reason is not None for b in blocks)
    for block in blocks:
        if block.language == "python":
            ast.parse(block.code)


def test_a_wrong_example_is_found():
    page = "Text.\n\n```python\nvalue = [1, 2]\nvalue  # [1, 3]\n```\n"
    (block,) = blocks_of(page)
    assert block.line == 4
    with pytest.raises(AssertionError, match="page:5"):
        run(block, {}, "page")
    (block,) = blocks_of(page.replace("1, 3", "1, 2.01"))
    run(block, {"np": np}, "page")
