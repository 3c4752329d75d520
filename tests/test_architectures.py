import keras
import numpy as np
import pytest

from scl_keras.architectures import (
    ARCHITECTURES,
    build_architecture,
    lenet_5,
    lenet_300_100,
    mobilenet,
    resnet,
    vgg,
)

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3)]


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def conv_connections(model, kernel_size):
    return sum(
        int(np.prod(layer.kernel.shape))
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
        and layer.kernel_size == (kernel_size, kernel_size)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stock_layers_and_finite_logits_for_every_data_set(name, shape):
    model = build_architecture(name, shape, 7)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    images = np.random.default_rng(0).random((3, *shape), dtype="float32")
    logits = keras.ops.convert_to_numpy(model(images))
    assert logits.shape == (3, 7)
    assert np.all(np.isfinite(logits))
    assert np.any(logits < 0) or np.any(logits > 1)  # not probabilities
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layer_names_are_stable(name):
    # Keras numbers unnamed layers per process: a second model would differ.
    first, second = (build_architecture(name, (28, 28, 1), 10) for _ in range(2))
    assert [layer.name for layer in first.layers] == [
        layer.name for layer in second.layers
    ]
    assert first.name == name
    assert first.layers[0].name == "image"
    assert first.layers[-1].name == "logits"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_depend_on_the_seed_only(name):
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return build_architecture(name, (8, 8, 1), 10).get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


# Keras's own save and load convert variables in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keras_file_round_trip(name, tmp_path):
    model = build_architecture(name, (28, 28, 1), 10)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    images = np.random.default_rng(0).random((2, 28, 28, 1), dtype="float32")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(loaded(images)),
        keras.ops.convert_to_numpy(model(images)),
    )


def test_lenet_parameters_are_the_literatures():
    assert lenet_300_100((28, 28, 1), 10).count_params() == 266_610
    assert lenet_5((28, 28, 1), 10).count_params() == 431_080


def test_lenet_5_padding():
    assert lenet_5((28, 28, 1), 10).get_layer("conv_1").padding == "valid"
    assert lenet_5((16, 16, 1), 10).get_layer("conv_1").padding == "valid"
    assert lenet_5((15, 15, 1), 10).get_layer("conv_1").padding == "same"
    assert lenet_5((4, 4, 1), 10, padding="same").output_shape == (None, 10)


@pytest.mark.parametrize(
    ("shape", "padding"),
    [((8, 8, 1), "valid"), ((3, 3, 1), None), ((28, 15, 1), "valid")],
)
def test_lenet_5_refuses_too_small_images(shape, padding):
    with pytest.raises(ValueError, match=r"at least .* pixels\. Received: input_sh"):
        lenet_5(shape, 10, padding=padding)


def test_vgg_16_connections_are_the_literatures():
    model = vgg((32, 32, 3), 10, depth=16, width=1.0)
    assert conv_connections(model, 3) == 14_710_464
    # Scales, shifts and the classifier, by hand.
    channels = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512
    assert count(model.trainable_variables) == 14_710_464 + 2 * channels + 5_130


def test_small_vgg_has_most_connections_in_dense_layers():
    model = build_architecture("small_vgg", (28, 28, 1), 10)
    dense = [x for x in model.layers if isinstance(x, keras.layers.Dense)]
    assert [x.units for x in dense] == [512, 512, 10]
    kernels = count(x.kernel for x in dense)
    assert kernels == 128 * 512 + 512 * 512 + 512 * 10
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 128 + 128 * 128)
    assert 0.5 < kernels / (kernels + convolutions) < 0.8
    assert conv_connections(model, 3) == convolutions


@pytest.mark.parametrize("depth", [8, 11, 13, 16, 19])
def test_vgg_depth_counts_convolutions_and_three(depth):
    model = vgg((32, 32, 3), 10, depth=depth, width=0.1)
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(convolutions) == depth - 3
    assert model.get_layer("stage5_pool").output.shape[1:3] == (1, 1)


def test_resnet_20_parameters():
    model = resnet((32, 32, 3), 10)
    # Kernels 3x3: the stem, then six convolutions a stage.
    kernels = 432 + 6 * 2_304 + (4_608 + 5 * 9_216) + (18_432 + 5 * 36_864)
    shortcuts = 16 * 32 + 32 * 64
    scales = 2 * (16 + 6 * (16 + 32 + 64) + 32 + 64)
    assert kernels + shortcuts + scales + 650 == 272_474
    assert count(model.trainable_variables) == 272_474
    # The published 269,722 (0.27 M) has shortcuts without parameters (option A).
    assert 272_474 - shortcuts - 2 * (32 + 64) == 269_722
    assert conv_connections(model, 3) == kernels


def test_resnet_18_parameters_are_the_cifar_variants():
    model = resnet((32, 32, 3), 10, depth=18, width=4.0, stages=4)
    assert count(model.trainable_variables) == 11_173_962


@pytest.mark.parametrize(("depth", "stages"), [(8, 3), (20, 3), (14, 2), (10, 4)])
def test_resnet_depth_counts_layers_with_weights(depth, stages):
    model = resnet((32, 32, 3), 10, depth=depth, stages=stages, width=0.25)
    weighted = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
        and not layer.name.endswith("_shortcut")
    ]
    assert len(weighted) == depth


def test_mobilenet_parameters_are_keras_applications():
    reference = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    model = mobilenet((32, 32, 3), 10, width=1.0)
    assert model.count_params() == reference.count_params() + 1024 * 10 + 10


@pytest.mark.parametrize("shape", [*SHAPES, (33, 47, 3), (224, 224, 3)], ids=str)
def test_mobilenet_has_the_form_of_xnnpacks_sparse_kernels(shape):
    model = mobilenet(shape, 10)
    stem = model.get_layer("stem_conv")
    assert stem.kernel.shape[:3] == (3, 3, 3)
    assert stem.strides == (2, 2)
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    ]
    assert convolutions[0] is stem
    for layer in convolutions:
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        assert depthwise or layer is stem or layer.kernel_size == (1, 1)
        if layer.strides == (2, 2):
            assert layer.padding == "valid"
            pad = model.layers[model.layers.index(layer) - 1]
            assert isinstance(pad, keras.layers.ZeroPadding2D)
            assert pad.padding == ((1, 1), (1, 1))
        elif depthwise:
            assert layer.padding == "same"
    pool = model.layers[-2]
    assert isinstance(pool, keras.layers.GlobalAveragePooling2D)
    assert 4 <= min(pool.input.shape[1:3]) < 8
    if shape == (224, 224, 3):
        assert sum(layer.strides == (2, 2) for layer in convolutions) == 5


def test_mobilenet_repeats_a_single_channel():
    gray, color = mobilenet((28, 28, 1), 10), mobilenet((28, 28, 3), 10)
    color.set_weights(gray.get_weights())
    images = np.random.default_rng(0).random((2, 28, 28, 1), dtype="float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(gray(images)),
        keras.ops.convert_to_numpy(color(np.repeat(images, 3, axis=-1))),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", ["vgg", "resnet", "mobilenet"])
def test_width_scales_the_connections_quadratically(name):
    half, full = (
        conv_connections(build_architecture(name, (32, 32, 3), 10, width=width), 1)
        + conv_connections(build_architecture(name, (32, 32, 3), 10, width=width), 3)
        for width in (0.5, 1.0)
    )
    assert 3.9 < full / half <= 4


@pytest.mark.parametrize(
    ("name", "shape", "kwargs", "message"),
    [
        ("lenet", (28, 28, 1), {}, "one of .*'lenet_5'.*Received: name='lenet'"),
        ("lenet_5", (28, 28), {}, r"Received: input_shape=\(28, 28\)"),
        ("vgg", (None, None, 3), {}, r"Received: input_shape=\(None, None, 3\)"),
        ("lenet_5", (28, 28, 1), {"padding": "full"}, "Received: padding='full'"),
        ("vgg", (32, 32, 3), {"depth": 17}, "one of .*16.*Received: depth=17"),
        ("vgg", (32, 32, 3), {"width": 0}, "Received: width=0"),
        ("resnet", (32, 32, 3), {"depth": 19}, "Received: depth=19, stages=3"),
        ("resnet", (32, 32, 3), {"depth": 2}, "Received: depth=2, stages=3"),
        ("resnet", (32, 32, 3), {"stages": 0}, "Received: stages=0"),
        ("mobilenet", (32, 32, 4), {}, r"Received: input_shape=\(32, 32, 4\)"),
    ],
)
def test_errors_say_what_was_received(name, shape, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_architecture(name, shape, 10, **kwargs)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_step_of_training_changes_every_kernel(name):
    model = build_architecture(name, (8, 8, 1), 10)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    rng = np.random.default_rng(0)
    images = rng.random((16, 8, 8, 1), dtype="float32")
    model.train_on_batch(images, rng.integers(10, size=16))
    after = [variable.numpy() for variable in variables]
    for old, new, variable in zip(before, after, variables, strict=True):
        assert not np.array_equal(old, new), variable.path
