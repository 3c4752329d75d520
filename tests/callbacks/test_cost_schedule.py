import keras
import numpy as np
import pytest

from scl_keras import (
    ConnectionCostScheduler,
    MaskedDense,
    MaskLogger,
    SCLSequential,
    ramp,
)

X, Y = np.ones((8, 3), "float32"), np.zeros((8, 2), "float32")


def _model():
    model = SCLSequential([keras.Input((3,)), MaskedDense(2)])
    model.compile("sgd", "mse", connection_cost=0.5)
    return model


class Costs(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.connection_cost))


@pytest.mark.slow
def test_every_epoch_has_the_cost_of_the_schedule_and_the_logs_show_it():
    model, costs = _model(), Costs()
    scheduler = ConnectionCostScheduler(lambda epoch, cost: cost / 2 + epoch)
    callbacks = [scheduler, costs, MaskLogger()]
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=callbacks).history
    assert costs.seen == [0.25, 1.125, 2.5625]
    np.testing.assert_allclose(history["connection_loss"], [1.5, 6.75, 15.375])


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_saved_cost(tmp_path):
    def double(epoch, cost):
        return 2 * cost

    model, costs = _model(), Costs()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[ConnectionCostScheduler(double)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    callbacks = [ConnectionCostScheduler(double), costs]
    loaded.fit(X, Y, epochs=3, initial_epoch=2, verbose=0, callbacks=callbacks)
    assert costs.seen == [4.0]


@pytest.mark.parametrize("cost", [np.float32(0.25), np.float64(0.25), 1, 0])
def test_any_real_number_is_a_cost(cost):
    model = _model()
    scheduler = ConnectionCostScheduler(lambda epoch, old: cost)
    model.fit(X, Y, verbose=0, callbacks=[scheduler])
    assert float(model.connection_cost) == float(cost)


@pytest.mark.parametrize("cost", [-0.1, float("nan"), float("inf"), 1e39, None, "0.1"])
def test_what_is_no_cost_is_refused(cost):
    scheduler = ConnectionCostScheduler(lambda epoch, old: cost)
    with pytest.raises(ValueError, match=r"epoch=0.*number >= 0.*Received"):
        _model().fit(X, Y, verbose=0, callbacks=[scheduler])


def test_it_tells_the_cost_when_asked(capsys):
    scheduler = ConnectionCostScheduler(lambda epoch, old: 0.125, verbose=1)
    _model().fit(X, Y, verbose=0, callbacks=[scheduler])
    assert "Epoch 1: connection cost 0.125." in capsys.readouterr().out


def test_a_ramp_rises_in_equal_steps_and_stays():
    rise = ramp(0.2, 4)
    np.testing.assert_allclose(
        [rise(e) for e in range(6)], [0.05, 0.1, 0.15] + [0.2] * 3
    )
    late = ramp(1.0, 2, begin=3)
    assert [late(epoch, 9.0) for epoch in range(6)] == [0, 0, 0, 0.5, 1, 1]


@pytest.mark.parametrize(
    "arguments",
    [
        (0.1, 0),
        (-0.1, 3),
        (np.nan, 3),
        (np.inf, 3),
        (1e39, 3),
        (0.1, np.nan),
        (0.1, np.inf),
    ],
)
def test_a_bad_ramp_is_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        ramp(*arguments)
