import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import WeightRewinding, find_masks, prune

X = np.random.default_rng(1).normal(size=(32, 6)).astype("float32")
Y = np.ones((32, 2), "float32")


def dense():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def fit(model, callbacks, epochs=2):
    model.fit(X, Y, batch_size=8, epochs=epochs, callbacks=callbacks, verbose=0)


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_begin(self, batch, logs=None):
        self.weights.append(self.model.get_weights())


@pytest.mark.parametrize("step", [0, 3])
def test_a_ticket_has_its_new_masks_and_old_weights(step):
    model, recorder, rewinding = dense(), Recorder(), WeightRewinding(step)
    fit(model, [recorder, rewinding])
    ticket = prune(model, "magnitude", 0.7, verbose=0, copy=True)
    masks = [keras.ops.convert_to_numpy(m.kept()) for m in find_masks(ticket)]
    assert rewinding.rewind(ticket) is ticket
    weights = [w for w in ticket.weights if not hasattr(w, "connection_mask")]
    for found, expected in zip(weights, recorder.weights[step], strict=True):
        np.testing.assert_array_equal(found, expected)
    for mask, before in zip(find_masks(ticket), masks, strict=True):
        np.testing.assert_array_equal(mask.kept(), before)
    # A second round, from the ticket, cuts more of it.
    ticket.compile("adam", "mse")
    fit(ticket, [])
    second = rewinding.rewind(prune(ticket, "magnitude", 0.9, verbose=0, copy=True))
    for mask, before in zip(find_masks(second), masks, strict=True):
        assert np.all(keras.ops.convert_to_numpy(mask.kept()) <= before)


def test_what_cannot_be_rewound():
    with pytest.raises(ValueError, match="`step` must be a whole number >= 0"):
        WeightRewinding(-1)
    model, late = dense(), WeightRewinding(100)
    with pytest.raises(ValueError, match="No weights are stored"):
        late.rewind(model)
    fit(model, [late])
    with pytest.raises(ValueError, match="can't store the weights of step 0"):
        fit(model, [WeightRewinding(0)])
    now = WeightRewinding(int(model.optimizer.iterations.numpy()))
    fit(model, [now])
    other = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="other shapes than those stored.*Received"):
        now.rewind(other)
