"""Label Studio's run-length code of a brush: the format of thi.ng/rle-pack over the RGBA bytes of the image.

The head has 32 bits for the number of bytes, 5 bits for the width of a byte minus 1, and four times 4 bits for the four
possible widths of a length, minus 1. Then runs follow until all bytes are coded. A run has 1 bit, which is 1 for a
repeated value and 0 for single values; 2 bits that choose the width of its length; the length minus 1; and one value if
it is repeated, else as many values as the length.
"""

import numpy as np

from cpal.data.dataset import MAX_PIXELS

LENGTHS = (3, 4, 8, 16)  # possible widths of a length, in bits
WORD = 8  # width of a byte of the image, in bits
CHANNELS = 4


def encode(mask: np.ndarray) -> list[int]:
    """Coded bytes of a mask bool (H, W); all four channels are 255 inside the mask, and 0 outside."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(starts, append=len(flat)) * CHANNELS
    head = f"{len(flat) * CHANNELS:032b}{WORD - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in LENGTHS)
    runs = "".join(_run(length, 255 * inside) for length, inside in zip(lengths.tolist(), flat[starts], strict=True))
    text = head + runs
    text += "0" * (-len(text) % 8)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tolist()


def _run(length: int, value: int) -> str:
    """Bits of a run of equal values; a run that is too long for a length of 16 bits is split."""
    parts = []
    while length:
        part = min(length, 1 << LENGTHS[-1])
        choice = next(n for n, bits in enumerate(LENGTHS) if part <= 1 << bits)
        parts.append(f"1{choice:02b}{part - 1:0{LENGTHS[choice]}b}{value:0{WORD}b}")
        length -= part
    return "".join(parts)


def decode(content: list[int], size: tuple[int, int]) -> np.ndarray:
    """Mask bool (H, W) from the bytes of `encode` or of Label Studio: true where the fourth channel is not 0.

    Raises ValueError if the content is too short or is not for an image of this size.
    """
    text = "".join(map(str, np.unpackbits(np.array(content, np.uint8)).tolist()))
    place = 0

    def number(bits: int) -> int:
        nonlocal place
        if place + bits > len(text):
            raise ValueError("a brush's run lengths end too soon")
        place += bits
        return int(text[place - bits : place], 2)

    total, word = number(32), number(5) + 1
    lengths = [number(4) + 1 for _ in range(4)]
    if total != size[0] * size[1] * CHANNELS or total > MAX_PIXELS * CHANNELS:
        raise ValueError(f"a brush's run lengths are of {total // CHANNELS} pixels, not of {size[0] * size[1]}")
    values, done = np.zeros(total, bool), 0
    while done < total:
        same = number(1)
        end = done + number(lengths[number(2)]) + 1
        if end > total:
            raise ValueError("a brush's run lengths are longer than the picture")
        if same:
            values[done:end] = number(word) > 0
        else:
            values[done:end] = [number(word) > 0 for _ in range(done, end)]
        done = end
    return values.reshape(*size, CHANNELS)[..., -1]
