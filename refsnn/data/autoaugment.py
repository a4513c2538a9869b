"""AutoAugment's policy for CIFAR-10 (Cubuk et al. 2019, arXiv 1805.09501), with Pillow."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from refsnn.ops import Array

GREY = (128, 128, 128)  # fills pixels from outside, as in Guo et al.'s code (Joint-A-SNN)
LAST_LEVEL = 9

#: 25 sub-policies of two (operation, probability, level). Guo et al.'s code has 0.8 in place of
#: 0.6 in the equalize that follows ("equalize", 0.2, 8); other transcriptions have 0.6.
POLICY = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)
PROBABILITIES = np.array([[p for _, p, _ in pair] for pair in POLICY])


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    """Transform an image: output (x, y) shows the pixel nearest (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


#: (image, strength s) -> image; s = ±level / 9
SIGNED: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "shear_y": lambda image, s: affine(image, 1, 0, 0, 0.3 * s, 1, 0),
    "translate_x": lambda image, s: affine(image, 1, 0, 150 / 331 * image.width * s, 0, 1, 0),
    "translate_y": lambda image, s: affine(image, 1, 0, 0, 0, 1, 150 / 331 * image.height * s),
    "rotate": lambda image, s: image.rotate(30 * s, fillcolor=GREY),
    "color": lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    "contrast": lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    "brightness": lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    "sharpness": lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
}
#: (image, strength s) -> image; s = level / 9
UNSIGNED: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * s)),
    "solarize": lambda image, s: ImageOps.solarize(image, round(256 * (1 - s))),
    "autocontrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
    "invert": lambda image, s: ImageOps.invert(image),
}


def auto_augment(images: Array, rng: np.random.Generator) -> Array:
    """Apply to each image (N, H, W, 3) of uint8 a sub-policy of `POLICY` that is drawn for it.

    Level 9 means: rotate by 30°, shear by 0.3, translate by 150/331 of the size (to the nearest
    pixel), each in a random direction; colour, contrast, brightness and sharpness 1 ± 0.9;
    posterize to 4 bits, solarize from 0 on. At level 0 none of these changes anything. The ranges
    are torchvision's and Guo et al.'s; in Cubuk et al.'s own code, colour, contrast, brightness and
    sharpness go from 0.1 to 1.9 without a sign, and translation up to 10 pixels. Raises TypeError
    or ValueError for other arrays.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise TypeError(f"images: got {getattr(images, 'dtype', type(images))}, want uint8")
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images: got shape {images.shape}, want (N, H, W, 3)")
    n = len(images)
    which = rng.integers(len(POLICY), size=n)
    applied = rng.random((n, 2)) < PROBABILITIES[which]
    signs = rng.choice((-1, 1), (n, 2))
    out = images.copy()
    for i in np.flatnonzero(applied.any(axis=1)):
        image = Image.fromarray(images[i])
        for k in np.flatnonzero(applied[i]):
            name, _, level = POLICY[which[i]][k]
            image = operate(image, name, level, signs[i, k])
        out[i] = np.asarray(image)
    return out


def operate(image: Image.Image, name: str, level: int, sign: int) -> Image.Image:
    strength = level / LAST_LEVEL
    if name in SIGNED:
        return SIGNED[name](image, sign * strength)
    return UNSIGNED[name](image, strength)
