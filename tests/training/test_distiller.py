import keras
import numpy as np
import pytest

import scl_keras
from scl_keras import (
    AfterTarget,
    EffectiveSparsityLogger,
    FreezeMasks,
    GradualPruning,
    MaskLogger,
    PolynomialDecay,
    SafeBackup,
    SCLOptimizer,
    SwitcherModel,
    TargetSparsity,
    find_masks,
    freeze_masks,
    sparsify,
    strip_masks,
    summary,
)
from scl_keras.training import Distiller

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(128, 6)).astype("float32"), RNG.integers(0, 3, 128)


def _net(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(16, name="hidden")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def _fit(model, epochs=3, *callbacks, **options):
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options).history


def _distiller(*losses, **arguments):
    distiller = Distiller(_net(0), sparsify(_net(1)), *losses)
    distiller.compile(keras.optimizers.Adam(0.01), LOSS, **arguments)
    return distiller


def _kept(model):
    return sum(int(mask.count()) for mask in find_masks(model))


FEATURES = keras.distillation.FeatureDistillation("mse", "hidden", "hidden")
LOGITS = keras.distillation.LogitsDistillation(temperature=4.0)


@pytest.mark.slow
@pytest.mark.parametrize("losses", [LOGITS, FEATURES, [LOGITS, FEATURES]])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_with_masks_that_keep_all_it_is_the_stock_class_step_for_step(
    losses, jit_compile
):
    class Weights(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append(
                [
                    w.numpy()
                    for w in self.model.student.weights
                    if not hasattr(w, "connection_mask")
                ]
            )

    seen, logs = [], []
    for masked in (False, True):
        student, weights = _net(1), Weights()
        kind = keras.distillation.Distiller
        if masked:
            kind = Distiller
            freeze_masks(sparsify(student))
        model = kind(_net(0), student, losses, student_loss_weight=0.3)
        options = {"metrics": ["accuracy"], "jit_compile": jit_compile}
        model.compile(keras.optimizers.Adam(0.01), loss=LOSS, **options)
        data = {"validation_data": (X[:32], Y[:32])}
        logs.append(_fit(model, 2, weights, **data))
        seen.append(weights.seen)
    assert len(seen[0]) == 16
    for step in zip(*seen, strict=True):
        for a, b in zip(*step, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-4, err_msg=name)


def test_all_callbacks_count_the_student(tmp_path):
    distiller = _distiller()
    best = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    callbacks = [
        TargetSparsity(0.55, over="model"),
        EffectiveSparsityLogger(),
        MaskLogger(),
        SafeBackup(tmp_path),
        FreezeMasks(5),
        AfterTarget(best),
    ]
    history = _fit(distiller, 6, *callbacks)
    student = distiller.student
    assert summary(student, None).model_sparsity == pytest.approx(0.55, abs=0.01)
    assert history["model_sparsity"][-1] == pytest.approx(0.55, abs=0.01)
    assert history["density"][-1] == pytest.approx(_kept(student) / 144)
    kernels = [name for name in history if name.startswith("density/")]
    assert kernels == ["density/hidden/kernel", "density/logits/kernel"]
    effective = summary(student, None).effective
    assert history["effective_density"][-1] == pytest.approx(effective / 144)


def test_a_second_student_of_a_teacher_is_made_trainable_first(tmp_path):
    teacher = _net(0)
    Distiller(teacher, sparsify(teacher, copy=True))
    student = sparsify(teacher, copy=True)
    with pytest.raises(ValueError, match="was a teacher .*`student.trainable = True`"):
        Distiller(teacher, student)
    student.trainable = True
    distiller = Distiller(teacher, student)
    distiller.compile("adam", LOSS)
    _fit(distiller, 3, TargetSparsity(0.5))
    assert _kept(student) == 72
    distiller.trainable = False  # not to be trained any more: a file of it loads
    path = tmp_path / "distiller.keras"
    distiller.save(path)
    assert not keras.models.load_model(path, compile=False).student.trainable_variables


def test_multiply_accumulates_are_the_students():
    distiller = _distiller(cost="macs")
    history = _fit(distiller, 6, TargetSparsity(0.7))
    assert history["macs_sparsity"][-1] == pytest.approx(0.7, abs=0.01)
    assert _kept(distiller.student) == round(0.3 * 144)


def test_the_student_learns_from_the_teacher_and_is_a_model_to_ship():
    class Silent(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.zeros_like(y_pred[..., 0])

    teacher, student = _net(0), sparsify(_net(1))
    before = [w.numpy() for w in teacher.weights]
    distiller = Distiller(teacher, student)
    distiller.compile(keras.optimizers.Adam(0.02), Silent())
    history = _fit(distiller, 30, TargetSparsity(0.3))
    assert history["distillation_loss"][-1] < history["distillation_loss"][0] / 3
    for a, b in zip(before, teacher.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    expected = distiller.predict(X, verbose=0)
    stock = strip_masks(student)
    assert type(stock) is type(teacher) and not find_masks(stock)
    np.testing.assert_allclose(stock.predict(X, verbose=0), expected, atol=1e-5)


@pytest.mark.slow
def test_it_is_saved_and_goes_on(tmp_path):
    whole, first = _distiller(), _distiller()
    target = TargetSparsity(0.8, by_epoch=3)
    _fit(whole, 4, target)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    with pytest.warns(UserWarning, match="stopped early"):
        _fit(first, 4, target, Stop())
    first.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    assert isinstance(again, Distiller)
    _fit(again, 4, target, initial_epoch=2)
    for a, b in zip(whole.student.weights, again.student.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_stock_class_serves_with_our_optimizer_and_for_fixed_masks():
    student = sparsify(_net(1))
    stock = keras.distillation.Distiller(_net(0), student, LOGITS)
    stock.compile("adam", loss=LOSS)
    with pytest.raises(ValueError, match="`scl_keras.Distiller`"):
        _fit(stock, 3, TargetSparsity(0.8))
    stock.compile(SCLOptimizer("adam"), loss=LOSS)
    _fit(stock, 3, TargetSparsity(0.8))
    assert _kept(student) == round(0.2 * 144)
    student = sparsify(_net(1), ste=None)
    stock = keras.distillation.Distiller(_net(0), student, LOGITS)
    stock.compile("adam", loss=LOSS)
    _fit(stock, 3, GradualPruning(PolynomialDecay(0, 0.8, 0, 20)))
    assert _kept(student) == round(0.2 * 144)


def test_what_it_cannot_distil_is_refused():
    masked = sparsify(_net(0))
    with pytest.raises(ValueError, match="A teacher has no masks.*Received"):
        Distiller(masked, sparsify(_net(1)))
    with pytest.raises(ValueError, match="A student has masks.*Received"):
        Distiller(_net(0), _net(1))
    with pytest.raises(ValueError, match="A student has masks.*Received"):
        Distiller(_net(0), SwitcherModel(_net(1)))
    with pytest.raises(ValueError, match="'loss' cannot be `None`"):
        Distiller(_net(0), masked).compile("adam")
    assert scl_keras.Distiller is Distiller
