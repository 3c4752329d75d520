"""Custom training loops, one a backend: what `SCLModel.fit` does, without it."""

import keras


def train(model, optimizer, loss_function, batches):
    """Trains with the loop of Keras's backend.

    Args:
        model: A model with masked layers.
        optimizer: An `SCLOptimizer`.
        loss_function: A Keras loss.
        batches: List of `(x, y)` arrays, one a step.
    """
    loops = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    optimizer.build(model.trainable_variables)
    loops[keras.backend.backend()](model, optimizer, loss_function, batches)


def _tensorflow(model, optimizer, loss_function, batches):
    import tensorflow as tf

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_function(y, model(x, training=True)) + sum(model.losses)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    for x, y in batches:
        step(x, y)


def _jax(model, optimizer, loss_function, batches):
    import jax

    def loss_of(trainable, others, x, y):
        outputs, others, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return loss_function(y, outputs) + sum(losses), others

    @jax.jit
    def step(trainable, others, state, x, y):
        gradients, others = jax.grad(loss_of, has_aux=True)(trainable, others, x, y)
        trainable, state = optimizer.stateless_apply(state, gradients, trainable)
        return trainable, others, state

    variables = [
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
    ]
    states = [[v.value for v in some] for some in variables]
    for x, y in batches:
        states = step(*states, x, y)
    for some, values in zip(variables, states, strict=True):
        for variable, value in zip(some, values, strict=True):
            variable.assign(value)


def _torch(model, optimizer, loss_function, batches):
    import torch

    for x, y in batches:
        model.zero_grad()
        outputs = model(torch.as_tensor(x), training=True)
        loss = loss_function(torch.as_tensor(y), outputs) + sum(model.losses)
        loss.backward()
        variables = model.trainable_variables
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)
