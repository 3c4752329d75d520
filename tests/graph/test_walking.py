import keras
import numpy as np
from keras import layers

from scl_keras.graph.calls import layer_calls
from scl_keras.graph.walking import is_graph, sublayers, walk_inside


def nested():
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential(
        [keras.Input((4,)), shared, layers.ReLU(name="r")], name="n"
    )
    inputs = keras.Input((4,), name="x")
    x = inner(inner(shared(inputs)))
    return keras.Model(inputs, layers.Dense(2, name="last")(x))


def output_shapes(model):
    return [(call.layer, call.output_shape) for call in layer_calls(model)]


def test_layers_are_walked_once_and_nested_models_before_their_layers():
    names = [layer.name for layer in walk_inside(nested())[1:]]
    assert sorted(names) == sorted(set(names))
    assert [n for n in names if n != "input_layer"] == ["x", "shared", "n", "r", "last"]
    dense = layers.Dense(3)
    assert walk_inside(dense) == [dense]


def test_output_shapes_has_one_entry_a_call():
    calls = [(layer.name, shape) for layer, shape in output_shapes(nested())]
    calls = [call for call in calls if call[0] in ("shared", "r", "last")]
    expected = [("last", (None, 2))] + [("r", (None, 4))] * 2
    assert sorted(calls) == expected + [("shared", (None, 4))] * 3


def test_only_built_functional_and_sequential_models_are_graphs():
    class Net(keras.Model):
        def call(self, x):
            return x

    net = Net()
    net(np.zeros((1, 2)))
    assert is_graph(nested())
    assert is_graph(keras.Sequential([keras.Input((2,)), layers.Dense(1)]))
    assert not is_graph(keras.Sequential([layers.Dense(1)]))
    assert not is_graph(net)
    assert not is_graph(layers.Dense(2))


def test_output_shapes_of_layers_with_structured_outputs_and_ops():
    inputs = keras.Input((6, 3), name="a")
    sequence, state = layers.GRU(4, return_sequences=True, return_state=True)(inputs)
    x = keras.ops.concatenate([sequence[:, -1], state * 2.0], axis=-1)
    model = keras.Model({"a": inputs}, {"y": layers.Dense(2, name="d")(x)})
    assert ("d", (None, 2)) in [(y.name, shape) for y, shape in output_shapes(model)]


def test_output_shapes_works_in_mixed_precision_and_with_a_fixed_batch():
    inputs = keras.Input(batch_shape=(3, 6, 6, 1))
    x = layers.Conv2D(2, 3, dtype="mixed_float16", name="c")(inputs)
    shapes = {y.name: shape for y, shape in output_shapes(keras.Model(inputs, x))}
    assert shapes["c"] == (3, 4, 4, 2)


def test_layers_in_wrappers_and_those_that_a_layer_makes_are_walked():
    wrapper = layers.Bidirectional(layers.LSTM(2, name="lstm"), name="both")
    model = keras.Sequential([keras.Input((3, 4)), wrapper])
    names = [layer.name for layer in walk_inside(model)[1:]]
    both = ["forward_lstm", "lstm_cell", "backward_lstm", "lstm_cell"]
    assert names[-5:] == ["both", *both]
    assert sublayers(layers.Dense(2)) == []


def test_layers_of_custom_layers_are_walked_without_their_configurations():
    class Block(layers.Layer):
        def __init__(self, dense):
            super().__init__()
            self.parts = {"dense": [dense]}

        def call(self, x):
            return self.parts["dense"][0](x)

        def get_config(self):
            raise AssertionError("nobody asks for it")

    dense = layers.Dense(2)
    block = Block(dense)
    assert sublayers(block) == [dense]
    assert walk_inside(block) == [block, dense]


def test_a_graph_with_a_call_of_its_own_is_none():
    class Net(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    inputs = keras.Input((4,))
    net = Net(inputs, layers.Dense(2)(inputs))
    assert net.inputs and not is_graph(net)
