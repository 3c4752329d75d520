"""Gradients, which `keras.ops` doesn't have: the one place that needs a backend."""

import keras
import tensorflow as tf


class LossGradients:
    """Gradients of the loss, averaged over data, in training mode.

    Only the loss counts, without penalties (regularizers and `add_loss`). The model's
    state (moving averages, random seeds) is as before afterwards.

    Args:
        model: A built functional model.
        variables: List of variables, the trainable ones to differentiate by.
        loss: Loss, as for `keras.Model.compile`.
        loss_weights: As for `keras.Model.compile`.
    """

    def __init__(self, model, variables, loss, loss_weights=None):
        self.model, self.loss = model, loss
        evaluator = keras.Model(model.input, model.output)
        evaluator.compile(loss=loss, loss_weights=loss_weights, jit_compile=False)

        @tf.function(reduce_retracing=True)
        def gradients_of(x, y, sample_weight):
            values = [v.value for v in variables]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                y_pred = evaluator(x, training=True)
                value = evaluator.compute_loss(x, y, y_pred, sample_weight)
                value -= sum(evaluator.losses)
            zero = tf.UnconnectedGradients.ZERO
            found = tape.gradient(value, values, unconnected_gradients=zero)
            return [tf.cast(tf.convert_to_tensor(g), "float64") for g in found]

        self._gradients_of = gradients_of

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
        total, seen = 0.0, 0
        try:
            for *batch, size in batches:
                batch = keras.tree.map_structure(_tensor, batch)
                try:
                    found = self._gradients_of(*batch)
                except (ValueError, TypeError, LookupError, tf.errors.OpError) as error:
                    raise _mismatch(self.model, self.loss, batch[1]) from error
                found = [g * size for g in found]
                total = (
                    [g + h for g, h in zip(found, total, strict=True)]
                    if seen
                    else found
                )
                seen += size
        finally:
            for variable, value in state:
                variable.assign(value)
        return [keras.ops.convert_to_numpy(g) / seen for g in total]


def _tensor(array):
    # As an array it would be part of the traced function's signature.
    return None if array is None else tf.convert_to_tensor(array)


def _mismatch(model, loss, y):
    outputs = [tuple(x.shape) for x in model.outputs]
    targets = keras.tree.map_structure(lambda a: tuple(a.shape), y)
    return ValueError(
        f"The loss {loss!r} can't be computed on `data`: do the targets fit the "
        f"model's outputs, of shapes {outputs}? Received: targets of shapes {targets}"
    )


def pull_back(function, xs, kernels, upstream):
    """Vector-Jacobian product of a function.

    Args:
        function: `function(xs, kernels)`, returning a list of tensors.
        xs: List of arrays.
        kernels: List of arrays.
        upstream: List of arrays, one for each of its results.

    Returns:
        Two lists of arrays, of the shapes of `xs` and of `kernels`.
    """
    xs, kernels = [tf.constant(x) for x in xs], [tf.constant(k) for k in kernels]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([xs, kernels])
        ys = function(xs, kernels)
    zero = tf.UnconnectedGradients.ZERO
    found = tape.gradient(
        ys,
        [xs, kernels],
        [tf.constant(g) for g in upstream],
        unconnected_gradients=zero,
    )
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tuple(found))
