"""One bar over training and export."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from tqdm import tqdm

from scl_keras import compress
from scl_keras.pipeline.progress import Progress

X = np.random.default_rng(0).normal(size=(320, 8)).astype("float32")
Y = (X @ np.random.default_rng(1).normal(size=(8, 3))).astype("float32")


def trained():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(X, Y, epochs=5, verbose=0)
    return model


@pytest.mark.slow
def test_one_bar_from_the_first_step_to_the_file(tmp_path, capsys):
    options = {"compression": 1.5, "epochs": 3, "dtype": "float32"}
    compress(trained(), (X, Y), (X, Y), out=tmp_path, **options)
    bars = [line for line in capsys.readouterr().err.split("\n") if "%|" in line]
    assert len(bars) == 1  # what moves on returns to the line's beginning
    shown = [frame for frame in bars[0].split("\r") if frame]
    assert shown[0].startswith("training:   0%") and "export: 100%" in shown[-1]
    counts = [tuple(map(int, re.search(r"(\d+)/(\d+)", x).groups())) for x in shown]
    assert all(done <= total for done, total in counts)
    assert counts == sorted(counts, key=lambda count: count[0])


def test_a_second_file_and_one_without_a_training():
    with Progress(steps=5, monitor="val_loss", export_steps=4, disable=False) as bar:
        for _ in range(2):
            for step in "abcd":
                bar.exported(step)
        assert (bar._bar.n, bar._bar.total) == (8, 8)


def test_the_whole_is_reckoned_once(monkeypatch):
    known, rates, totals = tqdm.format_dict.fget, [None, 45.0, 150.0, 110.0], []
    monkeypatch.setattr(
        tqdm, "format_dict", property(lambda bar: {**known(bar), "rate": rates[0]})
    )
    with Progress(steps=5, monitor="val_loss", export_steps=4, disable=False) as bar:
        bar.set_params({"epochs": 4})
        for epoch in range(4):
            bar.on_epoch_begin(epoch)
            totals.append(bar._bar.total)
            for batch in range(5):
                bar.on_train_batch_end(batch)
            bar.on_epoch_end(epoch)
            rates = rates[1:] or rates
        bar.exported("a")
    assert [*totals, bar._bar.total] == [24, 24, 200, 200, 200]
