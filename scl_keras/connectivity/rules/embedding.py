"""The rule of `Embedding`."""

from keras import layers, ops

from scl_keras.connectivity.channels import Channels
from scl_keras.connectivity.layer_rules import Composite, LayerRule, register_rule


def _embedding(layer, x, embeddings):
    # A position holds any of the tokens: each is an input of its own.
    return ops.expand_dims(x, -1) * ops.sum(embeddings, axis=0)


def _channels(classes, call, xs):
    classes.pin(xs[0].ids, f"are looked up by '{call.operation.name}'")
    axis = len(call.outputs[0].shape) - 1
    return [Channels(axis, classes.fresh(call.operation.output_dim))]


def _shrink(layer, weights, kept):
    return {"output_dim": kept.units}, [weights[0][:, kept.outputs]]


register_rule(
    layers.Embedding,
    rule=LayerRule(
        reach=_embedding, kernels=("embeddings",), channels=_channels, shrink=_shrink
    ),
)


def _reversible(layer, inputs, reverse=False):
    untied = not layer.tie_weights

    def run(masks, inputs):
        table = masks[id(layer), "embeddings"]
        if not reverse:
            return [_embedding(layer, inputs, table)]
        back = (
            masks[id(layer), "reverse_embeddings"] if untied else ops.transpose(table)
        )
        return [ops.matmul(inputs, back)]

    return run


if hasattr(layers, "ReversibleEmbedding"):
    register_rule(
        layers.ReversibleEmbedding,
        rule=LayerRule(
            composite=Composite(_reversible, tensors=("inputs",), options=("reverse",))
        ),
    )
