"""Damage as logs have it: bytes lost, doubled, moved, cut, wrapped and not of the text."""

from __future__ import annotations

import numpy as np


def damaged(text: bytes, generator: np.random.Generator) -> bytes:
    """The text with one to four damages at places of the generator."""
    data = bytearray(text)
    for _ in range(int(generator.integers(1, 5))):
        at, length = int(generator.integers(0, len(data) + 1)), int(generator.integers(1, 40))
        kind = generator.integers(0, 7)
        if kind == 0:
            del data[at : at + length]
        elif kind == 1:
            data[at:at] = data[at : at + length]
        elif kind == 2:
            data[at:at] = b"\r\n"
        elif kind == 3:
            data[at : at + 1] = bytes([int(generator.integers(0, 256))])
        elif kind == 4:
            data[at:at] = b"9" * length
        elif kind == 5:
            del data[at:]
        else:
            other = int(generator.integers(0, len(data) + 1))
            data[at:at] = data[other : other + length]
    return bytes(data)
