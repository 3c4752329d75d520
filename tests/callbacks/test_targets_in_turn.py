"""One target after another, and callbacks that keep a model beside them."""

import keras
import numpy as np
import pytest

from scl_keras import (
    AfterTarget,
    ConnectionCostScheduler,
    ConstantSparsity,
    EffectiveSparsityLogger,
    FreezeMasks,
    GradualPruning,
    MaskLogger,
    TargetAccuracy,
    TargetSparsity,
    find_masks,
    freeze_masks,
    ramp,
    sparsify,
    thaw_masks,
)
from scl_keras.graph.kernels import prunable_kernels

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 10)).astype("float32")
Y = X @ RNG.normal(size=(10, 4))


def _model(**arguments):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(40, "relu")
    stock = keras.Sequential([keras.Input((10,)), hidden, keras.layers.Dense(4)])
    model = sparsify(stock)  # 560 connections
    model.compile(keras.optimizers.Adam(0.01), "mse", **arguments)
    return model


def _fit(model, epochs, *callbacks, first=0, **options):
    options = {"batch_size": 16, "verbose": 0, **options}
    callbacks = list(callbacks)
    return model.fit(
        X, Y, epochs=epochs, initial_epoch=first, callbacks=callbacks, **options
    ).history


def _kept(model):
    return sum(int((np.array(mask.variable) > 0).sum()) for mask in find_masks(model))


def _masks(model):
    return [np.array(mask.variable) for mask in find_masks(model)]


@pytest.mark.parametrize("second", [0.9, 0.3, 0.0])
def test_two_targets_in_turn_up_and_down(second):
    model = _model()
    _fit(model, 6, TargetSparsity(0.6))
    assert _kept(model) == round(0.4 * 560)
    history = _fit(model, 9, TargetSparsity(second), first=6)
    assert _kept(model) == round((1 - second) * 560)
    # By two thirds of the epochs that are left; the last one fine-tunes.
    assert (
        history["sparsity"][1]
        == history["sparsity"][2]
        == pytest.approx(second, abs=1e-3)
    )
    assert all(bool(mask.frozen.numpy()) for mask in find_masks(model))


def test_the_plan_of_a_second_target_begins_where_the_first_one_ended():
    model = _model()
    _fit(model, 3, TargetSparsity(0.5))
    history = _fit(model, 15, TargetSparsity(0.95, by_epoch=13), first=3)
    t = (np.arange(10) + 1) / 10
    planned = 0.5 * (0.05 / 0.5) ** (1 - (1 - t) ** 3)
    found = 1 - np.array(history["sparsity"][:10])
    np.testing.assert_allclose(found, planned, rtol=0.35)
    np.testing.assert_allclose(found[-1], 0.05, atol=1e-3)


@pytest.mark.parametrize("by_epoch", [4, 6])
def test_an_epoch_that_is_over_is_refused(by_epoch):
    model = _model()
    _fit(model, 6, TargetSparsity(0.6))
    message = f"`by_epoch` is {by_epoch}, but `fit` begins after epoch 6, with 224"
    with pytest.raises(ValueError, match=message):
        _fit(model, 9, TargetSparsity(0.9, by_epoch=by_epoch), first=6)


def test_a_fit_without_epochs_is_refused_unless_the_target_is_met():
    model = _model()
    _fit(model, 3, TargetSparsity(0.6))
    for epochs in (2, 6):
        message = f"no epoch to reach.*above 6. .*initial_epoch=6, epochs={epochs}"
        with pytest.raises(ValueError, match=message):
            _fit(model, epochs, TargetSparsity(0.9), first=6)
    _fit(model, 3, TargetSparsity(0.6), first=3)
    assert _kept(model) == 224


def test_a_target_that_is_met_has_nothing_to_do_until_masks_are_thawed():
    model = _model()
    _fit(model, 3, TargetSparsity(0.6))
    masks = _masks(model)
    _fit(model, 3, TargetSparsity(0.6, by_epoch=2))
    for a, b in zip(masks, _masks(model), strict=True):
        np.testing.assert_array_equal(a, b)
    thaw_masks(model)
    history = _fit(model, 3, TargetSparsity(0.6, by_epoch=2))
    assert not np.array_equal(masks[0], _masks(model)[0])
    assert _kept(model) == 224 and len(set(history["sparsity"])) <= 2


def test_an_interrupted_target_begins_anew_with_the_first_epoch():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 4

    model = _model()
    with pytest.warns(UserWarning, match="stopped early"):
        _fit(model, 12, TargetSparsity(0.9), Stop())
    left = 1 - _kept(model) / 560
    assert 0.4 < left < 0.9
    history = _fit(model, 12, TargetSparsity(0.9))
    # From there on, and not from a full network by jumps.
    assert np.abs(history["sparsity"][0] - left) < 0.2
    assert _kept(model) == 56


class Scores(keras.callbacks.Callback):
    """A score that is best in the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = -epoch


def _stopping():
    return keras.callbacks.EarlyStopping(
        "score", mode="max", patience=9, restore_best_weights=True
    )


@pytest.mark.parametrize("target_first", [True, False])
def test_weights_restored_from_before_are_told_of_in_any_order(target_first):
    callbacks = [TargetSparsity(0.8, by_epoch=3), Scores(), _stopping()]
    callbacks = callbacks if target_first else callbacks[1:] + callbacks[:1]
    with pytest.warns(UserWarning, match="not the 112 asked for") as told:
        _fit(_model(), 6, *callbacks)
    assert sum("asked for" in str(warning.message) for warning in told) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_after_target_the_best_weights_are_those_of_the_first_epoch_after_it(order):
    class Weights(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                self.weights = self.model.get_weights()

    model, seen, stopping = _model(), Weights(), _stopping()
    parts = [TargetSparsity(0.8, by_epoch=3), Scores(), AfterTarget(stopping)]
    callbacks = [parts[i] for i in order]
    if order.index(1) > order.index(2):  # it needs the score
        callbacks = [Scores(), *callbacks]
    _fit(model, 6, *callbacks, seen)
    assert stopping.best_epoch == 3 and stopping.best == -3
    for a, b in zip(seen.weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert _kept(model) == 112


@pytest.mark.slow
@pytest.mark.parametrize("target_first", [True, False])
def test_a_checkpoint_of_the_best_is_one_of_the_target_or_told_of(
    target_first, tmp_path
):
    def checkpoint():
        path = tmp_path / "best.keras"
        return keras.callbacks.ModelCheckpoint(
            path, "score", save_best_only=True, mode="max"
        )

    def callbacks(saving):
        both = [TargetSparsity(0.8, by_epoch=3), saving]
        return [Scores(), *(both if target_first else both[::-1])]

    message = "`ModelCheckpoint\\(save_best_only=True\\)` may keep"
    with pytest.warns(UserWarning, match=message):
        _fit(_model(), 6, *callbacks(checkpoint()))
    assert _kept(keras.models.load_model(tmp_path / "best.keras")) > 112
    model = _model()
    _fit(model, 6, *callbacks(AfterTarget(checkpoint())))
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert _kept(loaded) == 112
    for a, b in zip(_masks(loaded), _masks(model), strict=True):
        np.testing.assert_array_equal(a, b)
    # Where masks are frozen at the target from the start on, nothing else is saved.
    _fit(model, 8, *callbacks(checkpoint()), first=6)


class Heard(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.events = []


def _hearing(event):
    def hear(self, *args, **kwargs):
        self.events.append((event, *args[:1]))

    return hear


for _event in ("epoch_begin", "epoch_end", "train_batch_begin", "train_batch_end"):
    setattr(Heard, f"on_{_event}", _hearing(_event))
for _event in ("train_begin", "train_end", "test_begin", "test_end"):
    setattr(
        Heard,
        f"on_{_event}",
        lambda self, logs=None, e=_event: self.events.append((e,)),
    )


@pytest.mark.slow
def test_a_wrapped_callback_hears_what_it_would_hear_of_these_epochs_alone():
    data, wrapped, bare = (X[:16], Y[:16]), Heard(), Heard()
    model = _model()
    options = {"validation_data": data, "batch_size": 128}
    _fit(model, 4, AfterTarget(wrapped), FreezeMasks(2), **options)
    _fit(_model(), 4, bare, FreezeMasks(2), first=2, **options)
    assert wrapped.events == bare.events
    assert ("epoch_begin", 2) in bare.events and ("train_batch_end", 1) in bare.events
    assert wrapped.model is model


@pytest.mark.slow
@pytest.mark.parametrize("target_first", [True, False])
def test_masks_frozen_by_an_earlier_target_are_not_those_of_an_accuracy(target_first):
    model, heard = _model(metrics=["mae"]), Heard()
    _fit(model, 2, TargetSparsity(0.5))
    both = [TargetAccuracy(max_drop=9.0, monitor="val_mae"), AfterTarget(heard)]
    _fit(
        model,
        6,
        *(both if target_first else both[::-1]),
        validation_data=(X[:16], Y[:16]),
    )
    assert _kept(model) < 280
    begun = [event[1] for event in heard.events if event[0] == "epoch_begin"]
    assert begun == [4, 5]  # not the first one, in which masks rest at the old target


def test_masks_of_frozen_layers_do_not_keep_it_waiting():
    model = _model()
    model.layers[-1].trainable = False
    model.compile("adam", "mse")
    heard = Heard()
    _fit(model, 6, TargetSparsity(0.5), AfterTarget(heard))
    begun = [event for event in heard.events if event[0] == "epoch_begin"]
    assert begun == [("epoch_begin", 4), ("epoch_begin", 5)]


def test_where_masks_are_never_frozen_it_tells():
    with pytest.warns(UserWarning, match="`Heard` has seen no epoch.*by_epoch"):
        _fit(_model(), 2, AfterTarget(Heard()))
    with pytest.raises(ValueError, match="one Keras callback. Received: callback=3"):
        AfterTarget(3)


@pytest.mark.parametrize(
    "callback",
    [
        TargetSparsity(0.5),
        TargetAccuracy(),
        GradualPruning(ConstantSparsity(0.5, 0)),
        FreezeMasks(2),
        ConnectionCostScheduler(ramp(0.2, 6)),
    ],
)
def test_what_leads_to_the_target_is_not_for_after_it(callback):
    with pytest.raises(ValueError, match=f"`{type(callback).__name__}` has its work"):
        AfterTarget(callback)


def test_an_evaluation_is_heard_if_masks_are_frozen():
    model, heard = _model(), Heard()
    after = AfterTarget(heard)
    model.evaluate(X, Y, verbose=0, callbacks=[after])
    assert not heard.events
    freeze_masks(model)
    model.evaluate(X, Y, verbose=0, callbacks=[after])
    assert heard.events == [("test_begin",), ("test_end",)]


@pytest.mark.parametrize(
    ("compiled", "target", "figure"),
    [
        ({}, {}, set()),
        ({"cost": "macs"}, {}, {"macs_sparsity"}),
        ({}, {"of": "macs"}, {"macs_sparsity"}),
        ({}, {"over": "model"}, {"model_sparsity"}),
    ],
)
def test_lines_show_the_sparsity_and_what_is_steered(compiled, target, figure, capsys):
    model = _model(**compiled)
    history = _fit(model, 3, TargetSparsity(0.7, **target), verbose=2)
    assert set(history) == {"loss", "sparsity", "skipped_updates"} | figure
    lines = [x for x in capsys.readouterr().out.splitlines() if "loss:" in x]
    shown = [{part.split(":")[0] for part in line.split(" - ")[3:]} for line in lines]
    assert shown == [{"loss", "sparsity"} | figure] * 3
    for name in figure:
        assert history[name][-1] == pytest.approx(0.7, abs=2e-3)
    if "macs_sparsity" in figure and compiled:  # Dense layers: it is the sparsity
        np.testing.assert_allclose(
            history["macs_sparsity"], history["sparsity"], atol=1e-6
        )


def test_who_asks_for_more_has_it_everywhere_but_in_the_line(tmp_path, capsys):
    path = tmp_path / "log.csv"
    loggers = [MaskLogger(), EffectiveSparsityLogger()]
    callbacks = [*loggers, keras.callbacks.CSVLogger(path)]
    model = _model()
    history = _fit(model, 2, *callbacks, verbose=2)
    more = {"density", "compression", "connection_loss"}
    more |= {"effective_density", "dead_connections", "dead_features"}
    kernels = {
        f"{figure}/{kernel.label}"
        for figure in ("density", "effective_density")
        for kernel in prunable_kernels(model)
    }
    names = more | kernels | {"loss", "sparsity", "skipped_updates"}
    assert set(history) == names
    columns = path.read_text().splitlines()[0].split(",")
    assert {x for x in columns if not x.startswith("val_")} == names | {"epoch"}
    assert history["density"][-1] == pytest.approx(_kept(model) / 560)
    assert history["compression"][-1] == pytest.approx(560 / _kept(model))
    shown = capsys.readouterr().out
    assert "sparsity:" in shown and not any(name in shown for name in more)


@pytest.mark.parametrize("verbose", [1, 2])
def test_skipped_updates_are_shown_when_there_are_some(verbose, capsys):
    model = _model()
    history = _fit(model, 1, verbose=verbose)
    assert "skipped" not in capsys.readouterr().out
    assert history["skipped_updates"] == [0]
    broken = np.where(np.arange(256)[:, None] == 3, np.nan, X)
    model.fit(broken, Y, batch_size=128, shuffle=False, verbose=verbose)
    assert "skipped_updates: 1" in capsys.readouterr().out


def test_fit_takes_its_arguments_as_keras_does():
    model = _model()
    history = keras.callbacks.History()
    logger = MaskLogger()
    assert model.fit(X, Y, 64, 2, 0, logger) is model.history
    assert len(model.history.history["density"]) == 2
    assert model.fit(X, Y, verbose=0, callbacks=[[history], logger]) is history
    whole = keras.callbacks.CallbackList([logger], add_history=True, model=model)
    assert "density" in model.fit(X, Y, verbose=0, callbacks=whole).history


def test_without_data_or_gradients_nothing_is_cut_at_random():
    model = _model()
    before = _masks(model)
    with pytest.raises(ValueError, match="epoch 1.*all of its 16 batches had NaN"):
        model.fit(np.full_like(X, np.nan), Y, 16, 6, 0, [TargetSparsity(0.9)])
    for a, b in zip(before, _masks(model), strict=True):
        np.testing.assert_array_equal(a > 0, b > 0)
    model.compile(keras.optimizers.Adam(gradient_accumulation_steps=99), "mse")
    with pytest.raises(ValueError, match="no batch has updated.*accumulation_steps"):
        _fit(model, 1, TargetSparsity(0.9))
    for a, b in zip(before, _masks(model), strict=True):
        np.testing.assert_array_equal(a > 0, b > 0)
