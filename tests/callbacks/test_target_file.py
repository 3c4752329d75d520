"""The file itself is what counts: `export_tflite` writes it, and tells its bytes."""

import keras
import numpy as np
import pytest

from scl_keras import (
    SafeBackup,
    TargetBytes,
    TargetSpeed,
    check_target,
    compact,
    export_tflite,
    find_masks,
    sparsify,
    stripped,
    summary,
)
from scl_keras.export.meter import FileMeter

layers = keras.layers


def images(count=256):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 8, 8, 1)).astype("float32")
    y = (x[:, :4].mean((1, 2, 3)) > x[:, 4:].mean((1, 2, 3))).astype("int32")
    return x, y


def network(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            layers.Conv2D(16, 3, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="third"),
            layers.Dense(2, name="last"),
        ],
        name="network",  # files hold names, also that of the input
    )
    sparsify(model, verbose=0, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    return model


def fit(model, *callbacks, epochs=5, **options):
    x, y = images()
    return model.fit(
        *(x, y), epochs=epochs, callbacks=callbacks, verbose=0, shuffle=False, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_bytes", "dtype"),
    [
        (8_000, "float32"),
        (12_000, "float32"),
        (8_000, "int8"),
        (12_000, "int8"),
    ],
)
def test_the_written_file_has_the_bytes_asked_for(tmp_path, dtype, max_bytes):
    model = network()
    fit(model, TargetBytes(max_bytes, dtype))
    report = export_tflite(
        model,
        tmp_path / "model.tflite",
        samples=images()[0],
        dtype=dtype,
        optimize_for="size",
        latency_seconds=0,
        verbose=0,
    )
    size = (tmp_path / "model.tflite").stat().st_size
    assert report.bytes_written == size
    assert 0.95 * max_bytes <= size <= max_bytes


@pytest.mark.slow
def test_frozen_masks_that_meet_it_stay_in_a_later_fit():
    model = network()
    fit(model, TargetBytes(8_000))
    before = [mask.values() for mask in find_masks(model)]
    fit(model, TargetBytes(8_000), epochs=2)
    for mask, values in zip(find_masks(model), before, strict=True):
        np.testing.assert_array_equal(mask.values(), values)
    fit(model, TargetBytes(5_000), epochs=3)
    assert summary(model, print_fn=None).kept < sum((b > 0).sum() for b in before)
    assert FileMeter(model).bytes() <= 5_000


@pytest.mark.slow
@pytest.mark.parametrize("max_bytes", [500, 1_500])
def test_fewer_bytes_than_can_be_had_are_refused_before_training(max_bytes):
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"can't be of .* bytes.*it is of"):
        fit(model, TargetBytes(max_bytes))
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.slow
def test_what_is_refused_names_what_can_be_had():
    model = network()
    with pytest.raises(ValueError, match="for each mask it is of") as refused:
        fit(model, TargetBytes(1_000))
    least = int(str(refused.value).split("it is of ")[1].split()[0].replace(",", ""))
    fit(model, TargetBytes(2 * least), epochs=6)
    assert FileMeter(model).bytes() <= 2 * least


@pytest.mark.slow
def test_a_budget_larger_than_the_file_cuts_nothing():
    model = network()
    with pytest.warns(UserWarning, match="Nothing has to be cut"):
        fit(model, TargetBytes(10**6), epochs=3)
    assert summary(model, print_fn=None).sparsity == 0


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise Killed


@pytest.mark.slow
@pytest.mark.parametrize(
    "at",
    [
        (3, 0),
        (1, 2),
        (4, 5),
    ],
)
def test_a_resumed_training_ends_with_the_same_masks(tmp_path, at):
    whole, cut = network(), network()
    fit(whole, TargetBytes(6_000, by_epoch=4), epochs=6)
    with pytest.raises(Killed):
        fit(
            cut,
            TargetBytes(6_000, by_epoch=4),
            SafeBackup(tmp_path),
            Kill(*at),
            epochs=6,
        )
    resumed = network()
    fit(resumed, TargetBytes(6_000, by_epoch=4), SafeBackup(tmp_path), epochs=6)
    for mask, other in zip(find_masks(resumed), find_masks(whole), strict=True):
        np.testing.assert_array_equal(mask.values(), other.values())


def share_of_macs(meter, seconds=1.0):
    """A clock that no machine disturbs: the multiply-accumulates that are left."""
    model = meter._model
    if not hasattr(meter, "all"):
        meter.all = summary(model, print_fn=None).macs
    with stripped(model) as stock:
        try:
            return summary(compact(stock), print_fn=None).macs / meter.all
        except ValueError:  # nothing is left
            return 1.0


@pytest.mark.slow
def test_a_speed_is_reached_by_channels(monkeypatch):
    monkeypatch.setattr(FileMeter, "time", share_of_macs)
    model = network(runtime="compact")
    model.compile("adam", model.loss, cost="macs")
    all_of_it = summary(model, print_fn=None).macs
    fit(model, TargetSpeed(3.0), epochs=6)
    with stripped(model) as stock:
        left = summary(compact(stock), print_fn=None).macs
    assert 3.0 <= all_of_it / left <= 3.0 / 0.8  # a channel is 6 % of it


def test_a_speed_out_of_reach_is_refused(monkeypatch):
    monkeypatch.setattr(FileMeter, "time", lambda meter: 0.5)
    with pytest.raises(ValueError, match="3 times as fast.*it is 2 times as fast"):
        fit(network(runtime="compact"), TargetSpeed(3.0))


@pytest.mark.slow
def test_times_are_those_of_files():
    model = network(runtime="compact")
    meter = FileMeter(model)
    assert 0.3 < meter.time(0.3) < 3  # the same file twice, on a busy machine
    for mask in find_masks(model):
        cut = -np.ones(mask.variable.shape)
        cut.flat[0] = 1
        mask.variable.assign(cut)
    assert meter.time(0.3) < 1


def test_open_sizes_need_samples():
    model = keras.Sequential(
        [
            keras.Input((None, 4)),
            layers.Conv1D(8, 3),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match="give `samples`"):
        FileMeter(model)
    samples = np.zeros((2, 20, 4), "float32")
    assert FileMeter(model, samples=samples).bytes() > 1000


@pytest.mark.slow
def test_data_that_tell_nothing_are_refused_by_its_own_name():
    x, y = images(64)
    target = TargetBytes(12_000)
    with pytest.raises(ValueError, match="`TargetBytes` can't tell which conn.*NaN"):
        network().fit(x * np.nan, y, epochs=3, verbose=0, callbacks=[target])


@pytest.mark.slow
def test_what_can_be_had_is_known_before(monkeypatch):
    model = network()
    with stripped(model) as stock:
        dense = keras.models.clone_model(stock)
    possible = check_target(dense, "size", max_bytes=8_000)
    assert possible.refusal is None
    refused = check_target(model, "size", max_bytes=1_000)  # masked models, too
    assert "can't be of 1,000 bytes" in refused.refusal
    assert refused.refusal in str(refused)
    assert refused.as_dict()["refusal"] == refused.refusal
    monkeypatch.setattr(FileMeter, "time", lambda meter: 0.4)
    both = check_target(dense, "compact", max_bytes=900, speedup=3)
    assert len(both.refusal.splitlines()) == 2
    assert "it is 2.5 times as fast" in both.refusal
    for wrong in ({"max_bytes": 0.5}, {"speedup": 1}, {"max_bytes": 9, "dtype": "i"}):
        with pytest.raises(ValueError, match="must be"):
            check_target(dense, "size", **wrong)
