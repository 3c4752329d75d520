"""Arguments of the wrong type or out of range, to everything that is public."""

import contextlib
import fractions
import functools
import pathlib
import tempfile
import traceback

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import scl_keras
from scl_keras import (
    architectures,
    callbacks,
    checks,
    connectivity,
    conversion,
    datasets,
    export,
    masks,
    pipeline,
    plotting,
    pruning,
    switcher,
    targets,
    training,
    zoo,
)
from scl_keras import layers as masked_layers

PACKAGE = str(pathlib.Path(scl_keras.__file__).parent)
NAN, INF = float("nan"), float("inf")
NO_NUMBER = ["0.5", [0.5], np.array([0.5, 0.5]), {}, object(), 1j, True, NAN, INF, -INF]
NO_NUMBER += [10**400, len]
NOT_POSITIVE = [*NO_NUMBER, 0, -1, None]
NEGATIVE = [*NO_NUMBER, -1, -0.5, None]
NO_SHARE = [*NEGATIVE, 1.5]
NO_COUNT = [*NOT_POSITIVE, 1.5, 2**40]
NO_BYTES = [*NOT_POSITIVE, 1.5]
NO_INDEX = [*NEGATIVE, 1.5, 2**40]
NO_INTEGER = [*NO_NUMBER, 1.5, None]
NO_NAME = ["nothing", 3, ["connections"], np.array(["a", "b"]), {}, object(), True]
NO_MODEL = [None, 3, "model", [], np.zeros(3), object(), keras.Model, len]
NO_PATH = [None, 3, 0.5, ["a"], b"a", np.array(["a"]), True]
NO_SHAPE = [3, [], (), "shape", (8, 8), (None,), (0,), (-4,), ("4",), (4.5,), [None]]
NO_SHAPE += [np.array([4]), {}, object()]
NO_FUNCTION = [3, "f", [len], {}, np.zeros(3), int]


def without(values, *taken):
    """The values but for those that are allowed, compared by what they are."""
    return [v for v in values if not any(v is t for t in taken)]


def optional(values):
    return without(values, None)


@functools.cache
def dense():
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(4, activation="relu"), layers.Dense(2)]
    return keras.Sequential([keras.Input((4,)), *stack])


@functools.cache
def compiled():
    model = keras.models.clone_model(dense())
    model.compile("sgd", "mse")
    return model


def open_model():
    inputs = keras.Input((None,))
    return keras.Model(inputs, inputs * 2)


@functools.cache
def masked():
    model = scl_keras.sparsify(dense(), copy=True)
    model.compile("sgd", "mse")
    return model


@functools.cache
def switched():
    return scl_keras.SwitcherModel(dense(), copy=True)


@functools.cache
def opened():
    return keras.Sequential([keras.Input((None, 4)), layers.Conv1D(2, 3)])


@functools.cache
def graph():
    return connectivity.ConnectionGraph(dense())


X = np.zeros((4, 4), "float32")
SHAPES = [(4, 4), (4, 2)]


def export_with(**arguments):
    arguments = {"path": "never.tflite", "samples": X, **arguments}
    return export.export_tflite(dense(), arguments.pop("path"), **arguments)


@functools.cache
def exported_file():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        options = {"samples": X, "latency_seconds": 0, "verbose": 0}
        export.export_tflite(dense(), path, **options)
        return path.read_bytes()


def verify_with(**arguments):
    arguments = {"model": dense(), "samples": X, **arguments}
    return export.verify_tflite(exported_file(), **arguments)


def fit_with(schedule):
    """A `fit` whose connection cost, or sparsity, a schedule gives."""
    callback = callbacks.ConnectionCostScheduler(lambda epoch, cost: schedule)
    masked().fit(X, X[:, :2], callbacks=[callback], verbose=0)


def log_with(input_shapes):
    """A `fit` that is logged on inputs of some shapes."""
    model = opened()
    model.compile("sgd", "mse")
    callback = callbacks.EffectiveSparsityLogger(input_shapes)
    x = np.zeros((2, 5, 4), "float32")
    model.fit(x, x[:, :3, :2], callbacks=[callback], verbose=0)


def prune_gradually(sparsity):
    class Schedule:
        def __call__(self, step):
            return sparsity

        def is_due(self, step):
            return True

    model = scl_keras.sparsify(dense(), ste=None, copy=True)
    model.compile("sgd", "mse")
    pruned = [scl_keras.GradualPruning(Schedule())]
    model.fit(X, X[:, :2], callbacks=pruned, verbose=0)


def prune(**arguments):
    return scl_keras.prune(dense(), **{"sparsity": 0.5, "copy": True, **arguments})


def kw(function, name, **others):
    """A function of one argument, the others being right."""
    return lambda value: function(**{name: value, **others})


SCHEDULE = {"begin_step": 0, "end_step": 9}
DECAY = {"initial_sparsity": 0.0, "final_sparsity": 0.5, **SCHEDULE}
IMAGE = {"input_shape": (16, 16, 1), "num_classes": 3}


# What is called with each of the values on its right.
GOALS = ("max_drop", "max_bytes", "speedup", "sparsity", "compression")
WANTED = {name: {} for name in GOALS}

CASES = {
    # callbacks
    "TargetSparsity(sparsity)": (
        kw(callbacks.TargetSparsity, "sparsity"),
        [*NO_SHARE, 1.0],
    ),
    "TargetSparsity(compression)": (
        kw(callbacks.TargetSparsity, "compression"),
        [*NOT_POSITIVE, 0.9],
    ),
    "TargetSparsity(by_epoch)": (
        kw(callbacks.TargetSparsity, "by_epoch", sparsity=0.5),
        optional(NO_COUNT),
    ),
    "TargetSparsity(of)": (kw(callbacks.TargetSparsity, "of", sparsity=0.5), NO_NAME),
    "TargetSparsity(over)": (
        kw(callbacks.TargetSparsity, "over", sparsity=0.5),
        [*NO_NAME, None],
    ),
    "TargetSparsity(start)": (
        kw(callbacks.TargetSparsity, "start", sparsity=0.5),
        NO_NAME,
    ),
    "TargetBytes(max_bytes)": (kw(callbacks.TargetBytes, "max_bytes"), NO_BYTES),
    "TargetBytes(dtype)": (
        kw(callbacks.TargetBytes, "dtype", max_bytes=9_000),
        [*NO_NAME, None],
    ),
    "TargetSpeed(speedup)": (
        kw(callbacks.TargetSpeed, "speedup"),
        [*NOT_POSITIVE, 1.0],
    ),
    **{
        f"TargetAccuracy({name})": (kw(callbacks.TargetAccuracy, name), values)
        for name, values in {
            "max_drop": NOT_POSITIVE,
            "monitor": [3, None, ["accuracy"], True, len],
            "mode": [*NO_NAME, None],
            "baseline": NO_NUMBER,
            "margin": NEGATIVE,
        }.items()
    },
    **{
        f"compress({name})": (
            lambda value, name=name: pipeline.compress(
                compiled(),
                (X, X[:, :2]),
                (X, X[:, :2]),
                **{"epochs": 3, **WANTED.get(name, {"sparsity": 0.5}), name: value},
            ),
            values,
        )
        for name, values in {
            "max_drop": [x for x in NOT_POSITIVE if x is not None],
            "max_bytes": [x for x in NO_BYTES if x is not None],
            "speedup": [x for x in [*NOT_POSITIVE, 1.0] if x is not None],
            "sparsity": [x for x in [*NO_SHARE, 1.0] if x is not None],
            "compression": [x for x in [*NOT_POSITIVE, 0.9] if x is not None],
            "epochs": optional(NO_COUNT),
            "monitor": [3, ["accuracy"], True, len],
            "mode": [*NO_NAME, None],
            "granularity": [3, "block"],
            "dtype": NO_NAME,
            "optimize_for": NO_NAME,
            "learning_rate": optional(NOT_POSITIVE),
            "batch_size": NO_COUNT,
            "out": [x for x in NO_PATH if x is not None],
        }.items()
    },
    "compress": (
        lambda model: pipeline.compress(model, (X, X), (X, X), sparsity=0.5),
        NO_MODEL,
    ),
    **{
        f"compress(data {i})": (
            lambda data, i=i: pipeline.compress(
                compiled(),
                *[data if j == i else (X, X[:, :2]) for j in (0, 1)],
                sparsity=0.5,
            ),
            [None, 3, "data", X, (X,), (X, X, X, X), [], iter([(X, X)]), object()],
        )
        for i in (0, 1)
    },
    "AfterTarget": (callbacks.AfterTarget, NO_MODEL),
    "FreezeMasks": (callbacks.FreezeMasks, NO_INDEX),
    "ConnectionCostScheduler": (
        callbacks.ConnectionCostScheduler,
        [*NO_FUNCTION, None],
    ),
    "ConnectionCostScheduler()": (fit_with, [*NEGATIVE, 1e39]),
    "ramp(connection_cost)": (
        kw(callbacks.ramp, "connection_cost", epochs=2),
        [*NEGATIVE, 1e39],
    ),
    "ramp(epochs)": (
        kw(callbacks.ramp, "epochs", connection_cost=0.1),
        [*NOT_POSITIVE, 0.5],
    ),
    "ramp(begin)": (
        kw(callbacks.ramp, "begin", connection_cost=0.1, epochs=2),
        [*NO_NUMBER, None],
    ),
    "EffectiveSparsityLogger": (log_with, NO_SHAPE),
    "SafeBackup(backup_dir)": (callbacks.SafeBackup, NO_PATH),
    "SafeBackup(keep)": (kw(callbacks.SafeBackup, "keep", backup_dir="b"), NO_COUNT),
    # masks
    "Block(size)": (masks.Block, NO_COUNT),
    "Block(axis)": (kw(masks.Block, "axis", size=4), NO_INTEGER),
    "Channel": (masks.Channel, [3, "axes", (), [], (0.5,), ("0",), (NAN,), (True,)]),
    "LeakyReLU": (masks.LeakyReLU, [*NOT_POSITIVE, 1e39, 1e-46]),
    "Mask(initializer)": (
        kw(masks.Mask, "initializer"),
        [None, "nothing", NAN, INF, True, [3], np.zeros(3), object()],
    ),
    "Mask(ste)": (kw(masks.Mask, "ste"), optional(NO_NAME)),
    "Mask(feature_axes)": (kw(masks.Mask, "feature_axes"), [3, "a", (0.5,), None]),
    "Mask(min_connections)": (
        kw(masks.Mask, "min_connections"),
        [2, -1, 0.5, "1", None, NAN, [1], np.array([0, 1])],
    ),
    "Mask(granularity)": (kw(masks.Mask, "granularity"), [*NO_NAME, None]),
    "Mask(mask_dtype)": (kw(masks.Mask, "mask_dtype"), [*NO_NAME, None]),
    "Mask.assign": (
        lambda x: masks.find_masks(masked())[0].assign(x),
        [NAN, np.full((4, 4), NAN), 3, "mask", None, np.zeros(3), np.full((4, 4), "a")],
    ),
    "find_masks": (masks.find_masks, NO_MODEL),
    "freeze_masks": (masks.freeze_masks, NO_MODEL),
    "thaw_masks": (masks.thaw_masks, NO_MODEL),
    "start_from_magnitudes(masks)": (
        masks.start_from_magnitudes,
        [None, 3, "masks", [3], [None]],
    ),
    "start_from_magnitudes(height)": (
        lambda x: masks.start_from_magnitudes([], x),
        [*NOT_POSITIVE, 1.5],
    ),
    **{
        f"MaskedDense({name})": (kw(scl_keras.MaskedDense, name, units=3), bad)
        for name, bad in {
            "mask_initializer": [None, "nothing", NAN, INF, True, [3], np.zeros(3)],
            "ste": NO_NAME,
            "granularity": [*NO_NAME, None],
            "mask_dtype": [*NO_NAME, None],
        }.items()
    },
    "MaskedKernel(feature_axes)": (
        masked_layers.MaskedKernel,
        [3, "a", (), (0.5,), None],
    ),
    "MaskedKernel(positions)": (
        kw(masked_layers.MaskedKernel, "positions"),
        [*NO_FUNCTION, None],
    ),
    "MaskedKernel(when)": (
        kw(masked_layers.MaskedKernel, "when"),
        [3, "f", [len], int],
    ),
    "MaskedBias": (masked_layers.MaskedBias, [3, None, ["kernel"], NAN]),
    # conversion
    **{
        f"{name}(model)": (getattr(conversion, name), NO_MODEL)
        for name in ("sparsify", "strip_masks", "fix_masks", "unmasked_layers")
    },
    "stripped(model)": (lambda x: conversion.stripped(x).__enter__(), NO_MODEL),
    "sparsify(layers)": (
        kw(scl_keras.sparsify, "layers", model=dense(), copy=True),
        ["nothing", 3, [3], 0.5, np.zeros(3), layers.Conv2D],
    ),
    "sparsify(mask_initializer)": (
        kw(scl_keras.sparsify, "mask_initializer", model=dense(), copy=True),
        [None, "nothing", NAN, INF, True, [3]],
    ),
    "sparsify(ste)": (
        kw(scl_keras.sparsify, "ste", model=dense(), copy=True),
        NO_NAME,
    ),
    "sparsify(granularity)": (
        kw(scl_keras.sparsify, "granularity", model=dense(), copy=True),
        without(NO_NAME, NO_NAME[4]),  # an empty dict names no layer
    ),
    "sparsify(runtime)": (
        kw(scl_keras.sparsify, "runtime", model=dense(), copy=True),
        NO_NAME,
    ),
    # connectivity
    **{
        f"{function.__name__}(model)": (function, NO_MODEL)
        for function in (
            *(connectivity.compact, connectivity.effective_masks),
            *(connectivity.ConnectionGraph, scl_keras.summary),
        )
    },
    **{
        f"{function.__name__}(input_shapes)": (
            lambda x, f=function: f(opened(), input_shapes=x),
            NO_SHAPE,
        )
        for function in (
            *(connectivity.compact, connectivity.effective_masks),
            *(connectivity.ConnectionGraph, scl_keras.summary),
        )
    },
    "summary(print_fn)": (
        lambda x: scl_keras.summary(dense(), print_fn=x),
        [3, "print", [print]],
    ),
    "ConnectionGraph.effective": (
        lambda x: graph().effective(x),
        [3, "kept", [], [3, 3], np.zeros((4, 4)), {}],
    ),
    "compaction_report(model)": (
        lambda x: connectivity.compaction_report(x, dense()),
        NO_MODEL,
    ),
    "compaction_report(compacted)": (
        lambda x: connectivity.compaction_report(dense(), x),
        NO_MODEL,
    ),
    "compaction_report(batch_size)": (
        lambda x: connectivity.compaction_report(dense(), dense(), batch_size=x),
        NO_COUNT,
    ),
    "compaction_report(seconds)": (
        lambda x: connectivity.compaction_report(dense(), dense(), seconds=x),
        NEGATIVE,
    ),
    "LayerRule(reach)": (kw(connectivity.LayerRule, "reach"), NO_FUNCTION),
    "LayerRule(kernels)": (
        kw(connectivity.LayerRule, "kernels"),
        ["kernel", 3, [3], None],
    ),
    "LayerRule(is_known)": (
        kw(connectivity.LayerRule, "is_known"),
        [*NO_FUNCTION, None],
    ),
    "register_rule(types)": (
        lambda x: connectivity.register_rule(x, rule=connectivity.ELEMENTWISE),
        [3, "Dense", None, layers.ReLU()],
    ),
    "register_rule(rule)": (
        lambda x: connectivity.register_rule(Exception, rule=x),
        [3, "rule", None, len],
    ),
    "stand_in(types)": (
        lambda x: connectivity.stand_in(x)(lambda layer, x: x),
        [3, "Dense", None],
    ),
    "stand_in(kernels)": (
        lambda x: connectivity.stand_in(Exception, kernels=x)(lambda layer, x: x),
        ["kernel", 3, None],
    ),
    # pruning
    "prune(model)": (kw(scl_keras.prune, "model", sparsity=0.5), NO_MODEL),
    "prune(method)": (kw(prune, "method"), [*NO_NAME, None]),
    "prune(sparsity)": (kw(prune, "sparsity"), [*NO_SHARE, 1.0]),
    "prune(compression)": (
        kw(prune, "compression", sparsity=None),
        [*NOT_POSITIVE, 0.9],
    ),
    "prune(quotas)": (kw(prune, "quotas"), NO_NAME),
    "prune(layers)": (kw(prune, "layers"), ["nothing", 3, [3], 0.5]),
    "prune(data)": (
        kw(prune, "data", method="snip", loss="mse"),
        [3, [3], (3, 4), "x"],
    ),
    "prune(steps)": (kw(prune, "steps", data=[(X, X)]), optional(NO_COUNT)),
    "prune(input_shapes)": (kw(prune, "input_shapes"), [3, "a", (3,), (4.5,), {}]),
    **{
        f"{method.__name__}(rounds)": (method, NO_COUNT)
        for method in (pruning.IterativeSNIP, pruning.SynFlow)
    },
    "Random(seed)": (pruning.Random, NO_INDEX),
    "UniformPlus(last)": (pruning.UniformPlus, NO_SHARE),
    **{
        f"{quotas.__name__}.densities(density)": (
            lambda x, quotas=quotas: quotas().densities(SHAPES, x),
            NO_SHARE,
        )
        for quotas in (pruning.Uniform, pruning.UniformPlus, pruning.ERK, pruning.IGQ)
    },
    **{
        f"{quotas.__name__}.densities(shapes)": (
            lambda x, quotas=quotas: quotas().densities(x, 0.5),
            [3, "shapes", None, [], [3], [None], {}],
        )
        for quotas in (pruning.Uniform, pruning.UniformPlus, pruning.ERK, pruning.IGQ)
    },
    "quota_counts(quotas)": (
        lambda x: pruning.quota_counts(x, SHAPES, 3),
        [*NO_NAME, None],
    ),
    "quota_counts(shapes)": (
        lambda x: pruning.quota_counts(pruning.ERK(), x, 3),
        [3, "shapes", None, [], [3], [None], {}],
    ),
    "quota_counts(count)": (
        lambda x: pruning.quota_counts(pruning.ERK(), SHAPES, x),
        NO_INDEX,
    ),
    "quota_counts(limits)": (
        lambda x: pruning.quota_counts(pruning.ERK(), SHAPES, 3, x),
        [3, "limits", [3], [3, 3, 3], [NAN, 3], [-1, 3], [None, 3]],
    ),
    "get_method": (pruning.get_method, [*NO_NAME, None]),
    "get_quotas": (pruning.get_quotas, [*NO_NAME, None]),
    "from_tf_keras": (pruning.from_tf_keras, NO_MODEL),
    "PrunableNetwork(model)": (pruning.PrunableNetwork, NO_MODEL),
    "WeightRewinding": (pruning.WeightRewinding, NO_INDEX),
    "GradualPruning(schedule)": (
        pruning.GradualPruning,
        [*NO_FUNCTION, None, len, pruning.ConstantSparsity],
    ),
    "GradualPruning()": (prune_gradually, [*NO_SHARE, 1.0]),
    "ConstantSparsity(target_sparsity)": (
        kw(pruning.ConstantSparsity, "target_sparsity", **SCHEDULE),
        [*NO_SHARE, 1.0],
    ),
    **{
        f"PolynomialDecay({name})": (
            kw(pruning.PolynomialDecay, name, **{**DECAY, name: None}),
            bad,
        )
        for name, bad in {
            "initial_sparsity": [*NO_SHARE, 1.0],
            "final_sparsity": [*NO_SHARE, 1.0],
            "begin_step": NO_INDEX,
            "end_step": without(NO_COUNT, -1),
            "power": NOT_POSITIVE,
            "frequency": NO_COUNT,
        }.items()
    },
    # training
    "GradientNormalization(per)": (training.GradientNormalization, NO_NAME),
    "GradientNormalization(memory)": (
        kw(training.GradientNormalization, "memory"),
        NO_SHARE,
    ),
    "SCLOptimizer(optimizer)": (
        training.SCLOptimizer,
        [training.SCLOptimizer(), switcher.SwitcherOptimizer()],
    ),
    "SCLOptimizer(mask_optimizer)": (
        kw(training.SCLOptimizer, "mask_optimizer"),
        [training.SCLOptimizer()],
    ),
    "SCLOptimizer(connection_cost)": (
        kw(training.SCLOptimizer, "connection_cost"),
        [*optional(NEGATIVE), 1e39],
    ),
    "SCLOptimizer(cost)": (kw(training.SCLOptimizer, "cost"), [*NO_NAME, None]),
    "SCLOptimizer(normalization)": (
        kw(training.SCLOptimizer, "normalization"),
        NO_NAME,
    ),
    "compile(connection_cost)": (
        kw(masked().compile, "connection_cost", optimizer="sgd", loss="mse"),
        [*optional(NEGATIVE), 1e39],
    ),
    "compile(cost)": (
        kw(masked().compile, "cost", optimizer="sgd", loss="mse"),
        NO_NAME,
    ),
    "compile(normalization)": (
        kw(masked().compile, "normalization", optimizer="sgd", loss="mse"),
        NO_NAME,
    ),
    "Distiller(teacher)": (lambda x: training.Distiller(x, masked()), NO_MODEL),
    "Distiller(student)": (lambda x: training.Distiller(dense(), x), NO_MODEL),
    "Distiller(student_loss_weight)": (
        lambda x: training.Distiller(dense(), masked(), student_loss_weight=x),
        NO_SHARE,
    ),
    # switcher
    "SwitcherModel": (scl_keras.SwitcherModel, NO_MODEL),
    "SwitcherModel(layers)": (
        kw(scl_keras.SwitcherModel, "layers", model=dense(), copy=True),
        ["nothing", 3, [3], 0.5],
    ),
    **{
        f"SwitcherOptimizer({name})": (kw(switcher.SwitcherOptimizer, name), bad)
        for name, bad in {
            "task_steps": NO_COUNT,
            "switcher_steps": NO_COUNT,
            "threshold_learning_rate": NEGATIVE,
            "connection_cost": optional(NEGATIVE),
            "switcher": optional(without(NO_MODEL, keras.Model)),
        }.items()
    },
    "SwitcherModel.compile(task_steps)": (
        kw(switched().compile, "task_steps", optimizer="sgd", loss="mse"),
        NO_COUNT,
    ),
    "TurnsByEpoch(task)": (switcher.TurnsByEpoch, NO_COUNT),
    "TurnsByEpoch(switcher)": (kw(switcher.TurnsByEpoch, "switcher"), NO_COUNT),
    "switcher_network(units)": (
        switcher.switcher_network,
        [3, "units", (0,), (1.5,), ("3",), None, {}, (NAN,)],
    ),
    # targets and export
    "check_target(model)": (lambda x: targets.check_target(x, "size"), NO_MODEL),
    "check_target(runtime)": (
        lambda x: targets.check_target(dense(), x),
        [*NO_NAME, None],
    ),
    "fit_to_target(model)": (lambda x: targets.fit_to_target(x, "size"), NO_MODEL),
    "fit_to_target(runtime)": (
        lambda x: targets.fit_to_target(dense(), x),
        [*NO_NAME, None],
    ),
    "export_tflite(model)": (
        lambda x: export.export_tflite(x, "never.tflite", samples=X),
        NO_MODEL,
    ),
    "export_tflite(path)": (kw(export_with, "path"), [*NO_PATH, "x", "no/x.tflite"]),
    "export_tflite(samples)": (
        kw(export_with, "samples"),
        [None, 3, "x", ["x"], X.astype(str), [], X[:, :2], X * NAN],
    ),
    "export_tflite(optimize_for)": (kw(export_with, "optimize_for"), [*NO_NAME, None]),
    "export_tflite(dtype)": (kw(export_with, "dtype"), [*NO_NAME, None]),
    "export_tflite(labels)": (
        kw(export_with, "labels"),
        [3, "x", ["a"] * 4, [0.5] * 4, [0] * 3, {}],
    ),
    "export_tflite(tolerance)": (
        kw(export_with, "tolerance"),
        optional(NOT_POSITIVE),
    ),
    "export_tflite(latency_seconds)": (kw(export_with, "latency_seconds"), NEGATIVE),
    "read_metadata": (export.read_metadata, NO_PATH),
    "verify_tflite(file)": (lambda x: export.verify_tflite(x, dense(), X), NO_PATH),
    "verify_tflite(model)": (kw(verify_with, "model"), NO_MODEL),
    "verify_tflite(samples)": (
        kw(verify_with, "samples"),
        [3, "x", None, X[:0], X[:, :3], {"a": X}],
    ),
    "verify_tflite(labels)": (
        kw(verify_with, "labels"),
        [3, "x", ["a"] * 4, [0.5] * 4, [0] * 3, {}],
    ),
    "verify_tflite(tolerance)": (kw(verify_with, "tolerance"), optional(NOT_POSITIVE)),
    **{
        f"verify_tflite({name})": (
            kw(verify_with, name),
            [3, "x", {}, {"a": 3}, {"a": "b"}, [("a", "b")]],
        )
        for name in ("inputs", "outputs")
    },
    # networks, data, pictures, the zoo
    **{
        f"{build.__name__}({name})": (kw(build, name, **{**IMAGE, name: None}), bad)
        for build in architectures.ARCHITECTURES.values()
        for name, bad in {
            "input_shape": [3, "shape", (), (8, 8), (8, 8, 0), (8, 8, None), None],
            "num_classes": NO_COUNT,
        }.items()
    },
    **{
        f"{name}({argument})": (
            kw(getattr(architectures, name), argument, **IMAGE),
            bad,
        )
        for name, argument, bad in [
            ("vgg", "depth", NO_COUNT),
            ("vgg", "width", NOT_POSITIVE),
            ("vgg", "dense_units", [3, "units", (0,), (1.5,), None]),
            ("resnet", "depth", NO_COUNT),
            ("resnet", "stages", NO_COUNT),
            ("resnet", "width", NOT_POSITIVE),
            ("mobilenet", "width", NOT_POSITIVE),
            ("lenet_5", "padding", NO_NAME),
            ("vision_transformer", "heads", NO_COUNT),
            ("vision_transformer", "width", NO_COUNT),
            ("vision_transformer", "depth", NO_COUNT),
            ("vision_transformer", "patch", NO_COUNT),
        ]
    },
    "build_architecture": (
        lambda x: architectures.build_architecture(x, (8, 8, 1), 3),
        [*NO_NAME, None],
    ),
    "load_dataset(name)": (datasets.load_dataset, [*NO_NAME, None]),
    "load_dataset(data_dir)": (
        lambda x: datasets.load_dataset("mnist", data_dir=x),
        optional(NO_PATH),
    ),
    "pack_dataset(name)": (lambda x: datasets.pack_dataset(x, "packed"), NO_NAME),
    "pack_dataset(folder)": (lambda x: datasets.pack_dataset("mnist", x), NO_PATH),
    "plot_densities": (plotting.plot_densities, [None, 3, "history", [], {}]),
    "plot_input_mask": (plotting.plot_input_mask, NO_MODEL),
    "plot_kept": (plotting.plot_kept, NO_MODEL),
    "plot_training(model)": (lambda x: plotting.plot_training(x, {}), NO_MODEL),
    "plot_training(history)": (
        lambda x: plotting.plot_training(dense(), x),
        [None, 3, "history", {}],
    ),
    "zoo.names": (zoo.names, optional(NO_PATH)),
    **{
        f"zoo.{function.__name__}": (function, [*NO_NAME, None])
        for function in (zoo.load, zoo.load_card, zoo.load_masks)
    },
    "zoo.path_of(suffix)": (
        lambda x: zoo.path_of("digits_lenet_300_100", x),
        [*NO_NAME, None],
    ),
    "zoo.save_masks(path)": (lambda x: zoo.save_masks(x, {}), NO_PATH),
    "zoo.save_masks(masks)": (
        lambda x: zoo.save_masks("never.npz", x),
        [None, 3, "masks", {"a": 3}, {"a": np.zeros(3)}, {"a": None}, [np.zeros(3)]],
    ),
}


@pytest.mark.parametrize(
    ("call", "value"),
    [
        pytest.param(call, value, id=f"{name}-{i}")
        for name, (call, values) in CASES.items()
        for i, value in enumerate(values)
    ],
)
def test_wrong_arguments_are_refused_in_words_of_ours(call, value):
    with pytest.raises((ValueError, TypeError)) as found:
        call(value)
    text = str(found.value)
    frame = traceback.extract_tb(found.value.__traceback__)[-1]
    assert frame.filename.startswith(PACKAGE), f"{frame.filename}: {text}"
    assert "Received" in text


NUMBERS = st.integers() | st.floats() | st.fractions() | st.booleans()
ANYTHING = NUMBERS | st.none() | st.text() | st.complex_numbers() | st.lists(NUMBERS)
SCALARS = NUMBERS.filter(lambda x: abs(x) < 1e30).map(float).map(np.float32)


@given(ANYTHING | SCALARS)
def test_a_number_is_what_python_counts_with_and_float32_holds(value):
    is_real = isinstance(value, (int, float, fractions.Fraction, np.float32))
    expected = None
    if is_real and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an int beyond all floats
            fits = abs(float(value)) <= np.finfo("float32").max  # not so NaN
            expected = float(value) if fits else None
    if expected is None:
        with pytest.raises(ValueError, match="`x` must be a number. Received: x="):
            checks.number("x", value, "a number")
    else:
        assert checks.number("x", value, "a number") == expected


@given(ANYTHING | SCALARS, st.integers(-3, 3) | st.none())
def test_an_integer_is_whole_and_int32_holds_it(value, least):
    try:
        expected = int(value) if int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        expected = None
    low = -(2**31) + 1 if least is None else least
    is_in = expected is not None and low <= expected < 2**31
    if not is_in or isinstance(value, (bool, str, complex)):
        with pytest.raises(ValueError, match="`x` must be whole. Received: x="):
            checks.integer("x", value, "whole", least)
    else:
        found = checks.integer("x", value, "whole", least)
        assert found == value and type(found) is int


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(["float32", "float64"]))
def test_scalars_of_numpy_are_numbers(value, dtype):
    scalar = np.dtype(dtype).type(value)
    if scalar < 1:
        target = callbacks.TargetSparsity(scalar)
        assert target.density == 1 - float(scalar)


def test_a_target_without_masks_names_sparsify():
    inputs = keras.Input((4,))
    model = scl_keras.SCLModel(inputs, layers.Dense(2)(inputs))
    for each in (model, dense()):
        each.compile("sgd", "mse")
        with pytest.raises(ValueError, match="sparsify.*Received"):
            each.fit(X, X[:, :2], callbacks=[callbacks.TargetSparsity(0.5)], verbose=0)


def test_a_message_stays_readable_whatever_was_given():
    for value in (np.zeros((50, 50)), [[0.0] * 99] * 99, "x" * 9999, 10**400):
        error = checks.refusal("epochs", value, "a whole number")
        assert len(str(error)) < 1000 and "\n" not in str(error)
    model = keras.Sequential([keras.Input((20,)), layers.Dense(20)])
    (mask,) = scl_keras.find_masks(scl_keras.sparsify(model))
    with pytest.raises(ValueError, match="NaN and infinity") as caught:
        mask.assign(np.full((20, 20), NAN))
    assert len(str(caught.value)) < 500


def test_a_switcher_says_which_arguments_it_takes():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(TypeError, match="takes `layers`, `ste` and `copy`.*task_steps"):
        scl_keras.SwitcherModel(model, task_steps=2)
