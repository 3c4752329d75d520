"""SCL by its defaults, and other ways of it: recipes as in `recipes.py`."""

import keras

import scl_keras
from comparison.recipes import Prepared


def scl(model, run, data, epochs):
    """SCL by its defaults; `TargetSparsity` finds the connection cost."""
    target = scl_keras.TargetSparsity(compression=run.compression)
    return Prepared(scl_keras.sparsify(model), callbacks=[target])


def distilled_scl(model, run, data, epochs):
    """SCL by its defaults that learns from the dense network, too.

    Labels and the teacher's softened logits count half each, as by default.
    """
    target = scl_keras.TargetSparsity(compression=run.compression)
    student = scl_keras.sparsify(model, copy=True)
    distiller = scl_keras.training.Distiller(model, student)
    return Prepared(distiller, callbacks=[target], finish=lambda d: d.student)


def plain_scl(model, run, data, epochs, mask_initializer, mask_learning_rate):
    """SCL by its paper's rule: masks start alike, and their rate stays as it is."""
    model = scl_keras.sparsify(model, mask_initializer=mask_initializer)
    target = scl_keras.TargetSparsity(compression=run.compression, start=None)
    masks = keras.optimizers.SGD(mask_learning_rate)
    return Prepared(model, {"mask_optimizer": masks}, callbacks=[target])


def scl_by_feature(model, run, data, epochs):
    """SCL whose mask gradients are normalized for each feature, as in its paper."""
    prepared = scl(model, run, data, epochs)
    prepared.arguments = {"normalization": "feature"}
    return prepared


def scl_of_flops(model, run, data, epochs):
    """SCL that pays for multiply-accumulates, and has a target of them."""
    target = scl_keras.TargetSparsity(compression=run.compression, of="macs")
    return Prepared(scl_keras.sparsify(model), {"cost": "macs"}, callbacks=[target])


def scl_without_normalization(model, run, data, epochs, mask_learning_rate):
    """SCL with plain gradients.

    Its masks need a learning rate that suits the size of their gradients. The one here
    was found on LeNet-300-100, and serves the other networks as it is. `TargetSparsity`
    finds the connection cost from 0 on, for the default one is meant for normalized
    gradients.
    """
    prepared = scl(model, run, data, epochs)
    prepared.arguments = {
        "normalization": None,
        "mask_optimizer": keras.optimizers.SGD(mask_learning_rate),
        "connection_cost": 0.0,
    }
    return prepared
