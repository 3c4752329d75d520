"""TFLite files of dense layers and convolutions, written without the converter."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

BUILTIN = schema.BuiltinOperator


class Writer:
    """One graph in the making; its first buffer is empty by definition."""

    def __init__(self):
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version = 3
        self.model.description = b"test"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes, self.model.subgraphs = [], [self.graph]
        self.graph.tensors, self.graph.operators = [], []

    def tensor(self, name, shape, values=None, kind=schema.TensorType.FLOAT32):
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name.encode(), kind, 0
        tensor.shape = np.array([abs(n) for n in shape], np.int32)
        tensor.shapeSignature = np.array(shape, np.int32)
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, kind, inputs, output, options, **fields):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 1
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array([output], np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(schema, f"{options}T")()
        for field, value in fields.items():
            setattr(operator.builtinOptions, field, value)
        self.graph.operators.append(operator)

    def file(self, source, target):
        self.graph.inputs = np.array([source], np.int32)
        self.graph.outputs = np.array([target], np.int32)
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))


def dense_file(kernels, biases, split=1):
    """A chain of dense layers with ReLU; kernels of shape (outputs, inputs).

    With `split`, the first one reads samples of two axes, which it flattens.
    """
    writer = Writer()
    inputs = kernels[0].shape[1]
    shape = (inputs,) if split == 1 else (split, inputs // split)
    last = source = writer.tensor("input", (-1, *shape))
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        weights = writer.tensor(f"kernel{i}", kernel.shape, kernel)
        shift = writer.tensor(f"bias{i}", bias.shape, bias)
        output = writer.tensor(f"output{i}", (-1, len(kernel)))
        writer.operator(
            BUILTIN.FULLY_CONNECTED,
            [last, weights, shift],
            output,
            "FullyConnectedOptions",
            fusedActivationFunction=schema.ActivationFunctionType.RELU,
        )
        last = output
    return writer.file(source, last)


def dense_answer(kernels, biases, x):
    for kernel, bias in zip(kernels, biases, strict=True):
        x = np.maximum(x.astype(np.float64) @ kernel.T.astype(np.float64) + bias, 0)
    return x


def convolution_file(kernel, bias, size, depthwise=False):
    """A convolution without padding; a depthwise kernel is (1, h, w, channels)."""
    writer = Writer()
    height, width = kernel.shape[1:3]
    outputs = kernel.shape[3] if depthwise else len(kernel)
    source = writer.tensor("input", (-1, size, size, kernel.shape[3]))
    weights = writer.tensor("kernel", kernel.shape, kernel)
    shift = writer.tensor("bias", bias.shape, bias)
    shape = (-1, size - height + 1, size - width + 1, outputs)
    output = writer.tensor("output", shape)
    fields = {"padding": schema.Padding.VALID, "strideH": 1, "strideW": 1}
    if depthwise:
        fields["depthMultiplier"] = 1
    writer.operator(
        BUILTIN.DEPTHWISE_CONV_2D if depthwise else BUILTIN.CONV_2D,
        [source, weights, shift],
        output,
        "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
        **fields,
    )
    return writer.file(source, output)


def convolution_answer(kernels, biases, x, depthwise=False):
    [kernel], [bias] = kernels, biases
    height, width = kernel.shape[1:3]
    windows = np.lib.stride_tricks.sliding_window_view(
        x.astype(np.float64), (height, width), axis=(1, 2)
    )
    form = "nyxchw,ohwc->nyxc" if depthwise else "nyxchw,ohwc->nyxo"
    return np.einsum(form, windows, kernel.astype(np.float64)) + bias
