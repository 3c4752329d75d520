"""Models that others wrote, small and with random weights."""

import dataclasses
from collections.abc import Callable

import keras
import keras_hub.models as hub
import numpy as np
from keras import layers, ops

TOKENS, STEPS, CLASSES, BATCH = 64, 8, 3, 8
SIDE, LARGE = 32, 64  # of images


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and what is special about it.

    Attributes:
        build: Function that makes it.
        inputs: Function of a generator that makes a batch.
        cut: Regular expression of the label of one kernel in the middle.
        dead: The same of all those that are good for nothing without it.
        convolutional: Whether it is a graph of convolutions.
        slow: Whether it takes long.
    """

    build: Callable
    inputs: Callable
    cut: str
    dead: str
    convolutional: bool = False
    slow: bool = False

    @property
    def name(self):
        return self.build.__name__


def tokens(rng, *names):
    """A batch for a model that reads tokens, with two rows padded."""
    ids = rng.integers(0, TOKENS, (BATCH, STEPS)).astype("int32")
    found = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    found["padding_mask"][:2, -2:] = 0
    return found | {name: np.zeros_like(ids) for name in names}


def segmented_tokens(rng):
    return tokens(rng, "segment_ids")


def guide_tokens(rng):
    return tokens(rng)["token_ids"]


def images(rng):
    return rng.normal(size=(BATCH, SIDE, SIDE, 3)).astype("float32")


def large_images(rng):
    return rng.normal(size=(BATCH, LARGE, LARGE, 3)).astype("float32")


def vectors(rng):
    return rng.normal(size=(BATCH, 16)).astype("float32")


def gpt2():
    backbone = hub.GPT2Backbone(TOKENS, 2, 2, 16, 32, max_sequence_length=STEPS)
    return hub.GPT2CausalLM(backbone)


def llama():
    return hub.LlamaCausalLM(hub.LlamaBackbone(TOKENS, 2, 4, 16, 32, 2))


def gemma():
    return hub.GemmaCausalLM(hub.GemmaBackbone(TOKENS, 2, 4, 2, 16, 64, 4))


def bert():
    backbone = hub.BertBackbone(TOKENS, 2, 2, 16, 32, max_sequence_length=STEPS)
    return hub.BertTextClassifier(backbone, CLASSES)


def vit():
    backbone = hub.ViTBackbone((SIDE, SIDE, 3), 8, 2, 2, 16, 32)
    return hub.ViTImageClassifier(backbone, CLASSES)


def swin():
    backbone = hub.SwinTransformerBackbone((SIDE, SIDE, 3), 16, [1, 1], [2, 2], 4)
    return hub.SwinTransformerImageClassifier(backbone, CLASSES)


def segformer():
    encoder = hub.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        hidden_dims=[8, 16],
        image_shape=(SIDE, SIDE, 3),
    )
    return hub.SegFormerImageSegmenter(hub.SegFormerBackbone(encoder, 16), CLASSES)


def resnet():
    backbone = hub.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16],
        stackwise_num_blocks=[1, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(SIDE, SIDE, 3),
    )
    return hub.ResNetImageClassifier(backbone, CLASSES)


def mobilenet():
    backbone = hub.MobileNetBackbone(
        stackwise_expansion=[[8, 16], [16]],
        stackwise_num_blocks=[2, 1],
        stackwise_num_filters=[[8, 8], [16]],
        stackwise_kernel_size=[[3, 3], [5]],
        stackwise_num_strides=[[2, 1], [1]],
        stackwise_se_ratio=[[0.25, None], [0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish"]],
        stackwise_padding=[[1, 1], [2]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=1,
        depthwise_residual=True,
        squeeze_and_excite=None,
        last_layer_filter=16,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=8,
        image_shape=(SIDE, SIDE, 3),
    )
    return hub.MobileNetImageClassifier(backbone, CLASSES)


def efficientnet():
    backbone = hub.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0] * 2,
        stackwise_depth_coefficients=[1.0] * 2,
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 4],
        stackwise_strides=[1, 2],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_block_types=["v1"] * 2,
        min_depth=None,
        include_initial_padding=True,
        use_depth_divisor_as_min_depth=True,
        cap_round_filter_decrease=True,
        stem_conv_padding="valid",
        batch_norm_momentum=0.9,
        batch_norm_epsilon=1e-5,
        dropout=0,
        image_shape=(SIDE, SIDE, 3),
    )
    return hub.EfficientNetImageClassifier(backbone, CLASSES)


@keras.saving.register_keras_serializable("conformance")
class TransformerBlock(layers.Layer):
    """That of https://keras.io/examples/nlp/text_classification_with_transformer."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.config = {
            "embed_dim": embed_dim,
            "num_heads": num_heads,
            "ff_dim": ff_dim,
            "rate": rate,
        }
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def build(self, input_shape):
        self.att.build(input_shape, input_shape)
        for layer in (self.ffn, self.layernorm1, self.layernorm2):
            layer.build(input_shape)

    def call(self, inputs):
        attn_output = self.att(inputs, inputs)
        attn_output = self.dropout1(attn_output)
        out1 = self.layernorm1(inputs + attn_output)
        ffn_output = self.ffn(out1)
        ffn_output = self.dropout2(ffn_output)
        return self.layernorm2(out1 + ffn_output)

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable("conformance")
class TokenAndPositionEmbedding(layers.Layer):
    """That of the same page."""

    def __init__(self, maxlen, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.config = {
            "maxlen": maxlen,
            "vocab_size": vocab_size,
            "embed_dim": embed_dim,
        }
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def build(self, input_shape):
        self.token_emb.build(input_shape)
        self.pos_emb.build((input_shape[-1],))

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        positions = ops.arange(start=0, stop=maxlen, step=1)
        positions = self.pos_emb(positions)
        x = self.token_emb(x)
        return x + positions

    def get_config(self):
        return {**super().get_config(), **self.config}


def guide():
    inputs = keras.Input((STEPS,))
    x = TokenAndPositionEmbedding(STEPS, TOKENS, 8)(inputs)
    x = TransformerBlock(8, 2, 16)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(20, activation="relu", name="hidden")(x)
    x = layers.Dropout(0.1)(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


@keras.saving.register_keras_serializable("conformance")
class CustomFit(keras.Model):
    """A model with the `train_step` of the guide "Customizing what happens in fit()".

    It counts its steps, in a metric.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(32, activation="relu")
        self.middle = layers.Dense(32, activation="relu", name="middle")
        self.head = layers.Dense(CLASSES)
        self.own_steps = keras.metrics.Sum(name="own_steps")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.middle.build((None, 32))
        self.head.build((None, 32))

    def call(self, x, training=False):
        return self.head(self.middle(self.hidden(x)))

    def train_step(self, *args):
        step = {
            "tensorflow": self._tensorflow_step,
            "jax": self._jax_step,
            "torch": self._torch_step,
        }[keras.backend.backend()]
        return step(*args)

    def _tensorflow_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        trainable_vars = self.trainable_variables
        gradients = tape.gradient(loss, trainable_vars)
        self.optimizer.apply(gradients, trainable_vars)
        return self._logs(y, y_pred, loss)

    def _torch_step(self, data):
        import torch

        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        trainable_weights = list(self.trainable_weights)
        gradients = [v.value.grad for v in trainable_weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, trainable_weights)
        return self._logs(y, y_pred, loss)

    def _logs(self, y, y_pred, loss):
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            elif metric is self.own_steps:
                metric.update_state(1.0)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}

    def compute_loss_and_updates(self, trainable, non_trainable, x, y, training=False):
        y_pred, non_trainable = self.stateless_call(
            trainable, non_trainable, x, training=training
        )
        loss = self.compute_loss(x, y, y_pred)
        return loss, (y_pred, non_trainable)

    def _jax_step(self, state, data):
        import jax

        trainable, non_trainable, optimizer_variables, metrics_variables = state
        x, y = data
        grad_fn = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, (y_pred, non_trainable)), grads = grad_fn(
            trainable, non_trainable, x, y, training=True
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, grads, trainable
        )
        new_metrics_vars, logs = [], {}
        for metric in self.metrics:
            start = len(new_metrics_vars)
            own = metrics_variables[start : start + len(metric.variables)]
            if metric.name == "loss":
                own = metric.stateless_update_state(own, loss)
            elif metric is self.own_steps:
                own = metric.stateless_update_state(own, 1.0)
            else:
                own = metric.stateless_update_state(own, y, y_pred)
            logs[metric.name] = metric.stateless_result(own)
            new_metrics_vars += own
        state = (trainable, non_trainable, optimizer_variables, new_metrics_vars)
        return logs, state


def custom_fit():
    model = CustomFit()
    model(np.zeros((1, 16), "float32"))
    return model


def application(name, **kwargs):
    network = getattr(keras.applications, name)
    return network(
        input_shape=(LARGE, LARGE, 3),
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
        **kwargs,
    )


def mobilenet_v2():
    return application("MobileNetV2", alpha=0.35)


def efficientnet_b0():
    return application("EfficientNetB0")


def densenet_121():
    return application("DenseNet121")


def resnet_50_v2():
    return application("ResNet50V2")


_ALL = ""

CASES = {
    case.name: case
    for case in (
        Case(gpt2, tokens, "_1/feedforward_output", "_1/feedforward_"),
        Case(llama, tokens, "_1/feedforward_output", "_1/feedforward_", slow=True),
        Case(gemma, tokens, "_1/ffw_linear", "_1/ffw_", slow=True),
        Case(bert, segmented_tokens, "pooled_dense", _ALL, slow=True),
        Case(vit, images, "_2/mlp/dense_1", "_2/mlp/", slow=True),
        Case(swin, images, "stage_0/downsample/reduction", _ALL, slow=True),
        Case(segformer, images, r"^sequential(_\d+)?/", _ALL, slow=True),
        Case(resnet, images, "stack1_block1_2_conv", "stack1_block1_", True, slow=True),
        Case(mobilenet, images, "block_2_0_conv2", _ALL, True, slow=True),
        Case(efficientnet, images, "block2a_dwconv", _ALL, True, slow=True),
        Case(guide, guide_tokens, "hidden", _ALL),
        Case(custom_fit, vectors, "middle", _ALL),
        Case(mobilenet_v2, large_images, "block_6_depthwise", _ALL, True, slow=True),
        Case(efficientnet_b0, large_images, "block4a_dwconv", _ALL, True, slow=True),
        Case(densenet_121, large_images, "pool3_conv", _ALL, True, slow=True),
        Case(resnet_50_v2, large_images, "conv1_conv", _ALL, True, slow=True),
    )
}
