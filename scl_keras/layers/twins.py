"""Which masked class goes with which class of stock layers: its twin."""

from scl_keras.layers.declarations import MaskedKernel, declarations

_twins: dict[type, type] = {}  # by the stock classes
_masked: set[type] = set()


def register_twin(stock, masked):
    """Has a masked class go with a class of stock layers, and with its subclasses."""
    _twins[stock] = masked
    _masked.add(masked)


def is_twin(layer):
    """Whether a layer's class is a masked one, or a subclass of one."""
    return not _masked.isdisjoint(type(layer).__mro__)


def masked_class_of(layer):
    """The masked twin of a stock layer's class, or None if there is none.

    A subclass of a layer that has one gets one of its own: it reads its kernel by the
    same name, whatever it does with it.
    """
    if is_twin(layer):
        return None
    kind = type(layer)
    for base in kind.__mro__:
        if base in _twins:
            if base is not kind:
                _twins[base].make_twin(kind)
            return _twins[kind]
    return None


def own_kernels(layer):
    """The `MaskedKernel` declarations that hold for a layer, masked or not, by name."""
    return {
        k: v for k, v in _declared(layer).items() if v.when is None or v.when(layer)
    }


def has_kernels(layer):
    """Whether a layer is masked or could be, and has kernels of its own."""
    return bool(_declared(layer))


def is_maskable(layer):
    """Whether a layer is masked or has a masked twin."""
    return is_twin(layer) or masked_class_of(layer) is not None


def _declared(layer):
    return declarations(masked_class_of(layer) or type(layer), MaskedKernel)
