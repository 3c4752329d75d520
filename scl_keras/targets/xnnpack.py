"""Which 1x1 convolutions XNNPACK can run on its sparse kernels.

The rules are those of `xnn_check_nchw_compatibility` and
`xnn_subgraph_rewrite_for_nchw` in XNNPACK's `src/subgraph.c`: sparse kernels want
channels first, so that a whole part of the network has to be made of what has such
kernels. It begins with a 3x3 convolution with stride 2 on 3 channels, and ends with
global pooling.
"""

import keras
from keras import layers

from scl_keras.connectivity.activations import is_elementwise
from scl_keras.graph.tracing import trace_one

ENTERS, INSIDE, LEAVES = "enters", "inside", "leaves"


class SparsePart:
    """The parts of a network that XNNPACK can compute with channels first.

    Args:
        model: A functional or Sequential stock model with known sizes.

    Attributes:
        problems: Dict by the ids of layers: why a layer isn't in such a part, or None
            where it is.
    """

    def __init__(self, model):
        graph = trace_one(model)
        self._source = {id(x): call for call in graph.calls for x in call.outputs}
        self._pads = {
            id(call): call
            for call in graph.calls
            if type(call.operation) is layers.ZeroPadding2D
        }
        self._nodes = [call for call in graph.calls if id(call) not in self._pads]
        self._role, self._own = {}, {}
        for call in self._nodes:
            role, problem = _role_of(call, self._padding(call))
            self._role[id(call)], self._own[id(call)] = role, problem
        self._ends = {id(x) for x in graph.outputs}
        self._readers = {}
        for call in self._nodes:
            for before in self._before(call):
                self._readers.setdefault(id(before), []).append(call)
        self.problems = self._by_layer(self._spread())

    def _padding(self, call):
        pad = self._source.get(id(call.inputs[0])) if call.inputs else None
        return pad.operation.padding if id(pad) in self._pads else None

    def _before(self, call):
        """The calls whose outputs it reads, through paddings; None for an input."""
        found = []
        for x in call.inputs:
            before = self._source.get(id(x))
            if id(before) in self._pads:
                before = self._source.get(id(before.inputs[0]))
            found.append(before)
        return found

    def _spread(self):
        """The problem of each call: its own, or that of one it is connected with."""
        problems = dict(self._own)
        for call in self._nodes:
            if problems[id(call)] is None:
                problems[id(call)] = self._border(call)
        changed = True
        while changed:
            changed = False
            for call in self._nodes:
                if self._role[id(call)] in (INSIDE, LEAVES):
                    for before in self._before(call):
                        changed |= _share(problems, before, call)
        return problems

    def _border(self, call):
        """What stands where a part with channels first begins or ends."""
        role = self._role[id(call)]
        if role != ENTERS:
            for before in self._before(call):
                if before is None:
                    return "the part has to begin with a 3x3 convolution, not an input"
                if self._role[id(before)] == LEAVES or self._own[id(before)]:
                    return f"before it stands {_describe(before, self._own)}"
        if role != LEAVES:
            readers = self._readers.get(id(call), [])
            if not readers or any(id(x) in self._ends for x in call.outputs):
                return "the part has to end with global pooling, not an output"
            for after in readers:
                if self._role[id(after)] == ENTERS or self._own[id(after)]:
                    return f"after it stands {_describe(after, self._own)}"
        return None

    def _by_layer(self, problems):
        found = {}
        for call in self._nodes:
            key = id(call.operation)
            found[key] = found.get(key) or problems[id(call)]
        return found


def _share(problems, a, b):
    """One problem for two connected calls; whether that was news."""
    if a is None or (problems[id(a)] is None) == (problems[id(b)] is None):
        return False
    ill, well = (a, b) if problems[id(a)] else (b, a)
    text = problems[id(ill)]
    known = "connected with" in text
    name = ill.operation.name
    problems[id(well)] = text if known else f"connected with '{name}': {text}"
    return True


def _describe(call, problems):
    kind = type(call.operation).__name__
    problem = problems[id(call)] or "where another part begins or ends"
    return f"'{call.operation.name}' ({kind}): {problem}"


def _role_of(call, padding):
    """A call's role, and its problem where it has none: a pair."""
    layer = call.operation
    if any(len(x.shape) != 4 for x in call.inputs) or not call.inputs:
        return None, "it isn't on images"
    kind = type(layer)
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None, "channels come first"
    if kind is layers.Conv2D:
        return _convolution(layer, call.inputs[0].shape, padding)
    if kind is layers.DepthwiseConv2D:
        problem = _depthwise(layer, call.inputs[0].shape, padding)
        return (None, problem) if problem else (INSIDE, None)
    if kind is layers.GlobalAveragePooling2D:
        return LEAVES, None
    if kind in (layers.BatchNormalization, layers.Add, layers.Multiply, *_ELEMENTWISE):
        return INSIDE, None
    if kind is layers.Activation and is_elementwise(layer.activation):
        return INSIDE, None
    if kind is layers.UpSampling2D and layer.interpolation == "bilinear":
        return INSIDE, None
    return None, "there is no kernel of it with channels first"


def _convolution(layer, shape, padding):
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    if layer.groups != 1:
        return None, "a convolution in groups has no kernel with channels first"
    if not is_elementwise(layer.activation):
        return None, "its activation has no kernel with channels first"
    if size == (1, 1):
        if strides != (1, 1) or padding:
            return None, "1x1 convolutions must have stride 1 and no padding"
        return INSIDE, None
    is_stem = size == (3, 3) and strides == (2, 2) and shape[-1] == 3
    if not is_stem or tuple(layer.dilation_rate) != (1, 1):
        return (
            None,
            "only a 3x3 stem with stride 2 on 3 channels, and 1x1, have kernels",
        )
    problem = _explicit(layer, shape, padding, 1)
    return (None, f"the stem {problem}") if problem else (ENTERS, None)


def _depthwise(layer, shape, padding):
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    if layer.depth_multiplier != 1 or tuple(layer.dilation_rate) != (1, 1):
        return "it needs depth_multiplier=1 and no dilation"
    if size not in ((3, 3), (5, 5)) or strides not in ((1, 1), (2, 2)):
        return "it must be 3x3 or 5x5 with stride 1 or 2"
    if not is_elementwise(layer.activation):
        return "its activation has no kernel with channels first"
    if layer.padding == "same" and strides == (1, 1) and not padding:
        return None  # the runtime knows that as explicit padding
    return _explicit(layer, shape, padding, size[0] // 2)


def _explicit(layer, shape, padding, needed):
    """What is wrong with the padding of a layer with stride 2, or None."""
    wanted = f"needs ZeroPadding2D({needed}) and padding='valid'"
    if layer.padding == "valid":
        right = padding is not None and {n for pair in padding for n in pair} == {
            needed
        }
        return None if right else f"{wanted}: it is padded by {padding or 0}"
    even = [size for size in shape[1:3] if size is None or size % 2 == 0]
    if even:
        return (
            f"{wanted}: 'same' pads sizes that are even, such as {even[0]}, on one "
            "side more, which is another function"
        )
    return f"{wanted} instead of 'same': `fit_to_target` rewrites it"


_ELEMENTWISE = (
    *(layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Identity),
    *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise),
    keras.layers.ActivityRegularization,
)
