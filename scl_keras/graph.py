"""Walking through the layers and calls of a Keras model."""

import keras


def is_graph(layer):
    """Whether it is a built functional or Sequential model: a graph to walk."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def walk_layers(model):
    """All layers of a model, each once, with nested models before their layers."""
    seen = set()

    def walk(layers):
        for layer in layers:
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer
                if isinstance(layer, keras.Model):
                    yield from walk(layer.layers)

    return walk(model.layers if isinstance(model, keras.Model) else [model])


def output_shapes(model, inputs=None):
    """Output shapes of a model's layers, call by call.

    Nested models are entered, and a shared layer has one entry a call. A subclassed
    model has no graph to walk: there, each layer has one entry, from its `build`.

    Args:
        model: A built Keras model.
        inputs: List of `keras.Input` to call a graph on; by default its own.

    Returns:
        A list of pairs of a layer and one of its output shapes.
    """
    if not is_graph(model):
        layers = [x for x in walk_layers(model) if not isinstance(x, keras.Model)]
        return [(layer, _built_output_shape(layer)) for layer in layers if layer.built]
    seen = []
    # A new model around the same graph: cloning a compiled one would compile the clone.
    graph = keras.Model(model.inputs, model.outputs)
    keras.models.clone_model(
        graph,
        input_tensors=inputs,
        clone_function=lambda layer: _Probe(layer, seen),
        call_function=lambda probe, *args, **kwargs: probe(*args, **kwargs),
    )
    return seen


class _Probe(keras.Operation):
    """Stands in for a layer and writes its output shape down: it has no weights."""

    def __init__(self, layer, seen):
        super().__init__(name=layer.name)
        self.layer, self.seen = layer, seen

    def compute_output_spec(self, *args, **kwargs):
        outputs = self.layer.compute_output_spec(*args, **kwargs)
        if is_graph(self.layer):
            self.seen.extend(output_shapes(self.layer, self._fresh_inputs(args)))
        elif isinstance(outputs, keras.KerasTensor):
            self.seen.append((self.layer, outputs.shape))
        return outputs

    def _fresh_inputs(self, args):
        """Inputs as this call has them, which may be known better than the graph's."""
        tensors, own = keras.tree.flatten(args[:1]), self.layer.inputs
        if [len(x.shape) for x in tensors] != [len(x.shape) for x in own]:
            return None
        return [
            keras.Input(batch_shape=x.shape, dtype=y.dtype, name=y.name)
            for x, y in zip(tensors, own, strict=True)
        ]


def _built_output_shape(layer):
    input_shape = (layer.get_build_config() or {}).get("input_shape")
    return None if input_shape is None else layer.compute_output_shape(input_shape)
