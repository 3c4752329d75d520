"""The files that may be worth it: in which precision and encoding each is made."""

from __future__ import annotations

import dataclasses

from scl_keras.export.converter import ConvertedFiles
from scl_keras.export.encodings import ENCODINGS
from scl_keras.export.precisions import Precision, precisions

CONVERTER_SPARSE = "sparse"  # the encoding that the converter makes itself


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to make a file.

    Attributes:
        precision: Of weights and activations.
        encoding: A key of `ENCODINGS`, or `CONVERTER_SPARSE`.
        compacted: Whether dead units and channels are removed first.
    """

    precision: Precision
    encoding: str
    compacted: bool = False

    @property
    def name(self) -> str:
        """Precision, "compact" and encoding, as far as they aren't the default."""
        encoding = "" if self.encoding == "dense" else self.encoding
        words = self.precision.name, "compact" if self.compacted else "", encoding
        return " ".join(word for word in words if word) or "dense"

    @property
    def plain(self) -> bool:
        """Whether this is the plain converter's file, that others are measured by."""
        return self.name == "dense"

    @property
    def encoded(self) -> bool:
        """Whether its kernels are encoded, and not just rounded."""
        return self.encoding != "dense"

    def make(self, files: ConvertedFiles) -> bytes:
        """Makes the file, right or wrong.

        Args:
            files: The converter's files.

        Returns:
            The bytes of a TFLite file.

        Raises:
            NotNeeded: If it would be another candidate over again.
        """
        if self.plain:
            return files.plain
        if self.encoding == CONVERTER_SPARSE:
            return files.sparse(self.precision)
        return ENCODINGS[self.encoding](files.dense(self.precision, self.compacted))


def candidates(dtype: str) -> list[Candidate]:
    """Returns everything that is tried, the plain file first.

    Args:
        dtype: The coarsest precision allowed.
    """
    tried = []
    for precision in precisions(dtype):
        for compacted in (False, True):
            tried += [
                Candidate(precision, encoding, compacted)
                for encoding in precision.encodings
            ]
        if precision.converter_sparse:
            tried.append(Candidate(precision, CONVERTER_SPARSE))
    return tried
