"""Gradients of a loss over data, and of functions of arrays."""

import keras

from scl_keras import backend
from scl_keras.graph.states import from_initial_states
from scl_keras.graph.walking import graph_of, is_graph


class _Same(keras.Model):
    """Calls another model, and can be compiled without touching it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)


class LossGradients:
    """Gradients of the loss, averaged over data, in training mode.

    Only the loss counts, without penalties (regularizers and `add_loss`). The model's
    state (moving averages, random seeds, states of recurrent layers) is as before
    afterwards.

    Args:
        model: A built functional model.
        variables: List of variables, the trainable ones to differentiate by.
        loss: Loss, as for `keras.Model.compile`.
        loss_weights: As for `keras.Model.compile`.
    """

    def __init__(self, model, variables, loss, loss_weights=None):
        self.model, self.loss, self._variables = model, loss, variables
        evaluator = keras.Model(*graph_of(model)) if is_graph(model) else _Same(model)
        evaluator.compile(loss=loss, loss_weights=loss_weights, jit_compile=False)

        def gradients_of(x, y, sample_weight):
            def value():
                y_pred = evaluator(x, training=True)
                task = evaluator.compute_loss(x, y, y_pred, sample_weight)
                return task - sum(evaluator.losses)

            loss, pull_back = backend.variables_vjp(value, variables)
            return pull_back(keras.ops.ones_like(loss))

        self._gradients_of = backend.compiled(gradients_of, model.variables)

    def __call__(self, batches):
        """Gradients averaged over batches.

        Args:
            batches: Iterable of `(x, y, sample_weight, size)`.

        Returns:
            A list of float64 arrays, one a variable.

        Raises:
            ValueError: If the loss can't be computed.
        """
        state = [(v, keras.ops.copy(v)) for v in self.model.non_trainable_variables]
        total, seen = [0.0] * len(self._variables), 0
        try:
            with from_initial_states(self.model):
                for *batch, size in batches:
                    found = self._of(keras.tree.map_structure(_tensor, batch))
                    total = [a + size * g for a, g in zip(total, found, strict=True)]
                    seen += size
        finally:
            for variable, value in state:
                variable.assign(value)
        return [g / seen for g in total]

    def _of(self, batch):
        try:
            found = self._gradients_of(*batch)
        except backend.ERRORS as error:
            raise _mismatch(self.model, self.loss, batch[1]) from error
        return [keras.ops.convert_to_numpy(g).astype("float64") for g in found]


def _tensor(array):
    # As an array it would be part of the traced function's signature.
    if array is None:
        return None
    # `convert_to_tensor` makes bfloat16 of it on JAX where that is the default type.
    return keras.ops.array(array)


def _mismatch(model, loss, y):
    outputs = [tuple(x.shape) for x in model.outputs]
    targets = keras.tree.map_structure(lambda a: tuple(a.shape), y)
    return ValueError(
        f"The loss {loss!r} can't be computed on `data`: do the targets fit the "
        f"model's outputs, of shapes {outputs}? Received: targets of shapes {targets}"
    )


def pull_back_arrays(function, xs, kernels, upstream):
    """Vector-Jacobian product of a function.

    Args:
        function: `function(xs, kernels)`, returning a list of tensors.
        xs: List of arrays.
        kernels: List of arrays.
        upstream: List of arrays, one for each of its results.

    Returns:
        Two lists of arrays, of the shapes of `xs` and of `kernels`.
    """
    with backend.double_precision():
        xs, kernels, upstream = keras.tree.map_structure(
            lambda x: keras.ops.convert_to_tensor(x, "float64"), (xs, kernels, upstream)
        )
        _, pull_back = backend.vjp(function, xs, kernels)
        found = pull_back(upstream)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, found)
