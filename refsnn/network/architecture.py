"""Architectures (D19-D21): stem, stages of residual blocks, hidden layer of the head."""

from dataclasses import dataclass, replace

from refsnn.ops import AvgPool, Conv, validate

MOST = 1 << 16  # limit of channels per layer and of blocks per stage


@dataclass(frozen=True)
class Stem:
    """`convs` convolutions (conv-BN-LIF each), then average pooling where `pool` is given."""

    kernel: int = 3
    stride: int = 1
    convs: int = 1
    pool: AvgPool | None = None

    def conv(self, index: int) -> Conv:
        """Return the stride and padding of a convolution; only the first one is strided."""
        stride = self.stride if index == 0 else 1
        return Conv((stride, stride), (self.kernel // 2, self.kernel // 2))


CIFAR_STEM = Stem()  # D19
IMAGENET_STEM = Stem(kernel=7, stride=2, pool=AvgPool(3, 2, 1))  # D19
TRIPLE_STEM = Stem(convs=3, pool=AvgPool(2, 2))  # D21


@dataclass(frozen=True)
class Architecture:
    """Blocks and channels of each stage; every stage after the first halves the image."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem_width: int
    stem: Stem = CIFAR_STEM
    hidden: int = 0  # D20: units between global pooling and classifier, with a LIF; 0: none

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.widths) or not self.depths:
            depths, widths = len(self.depths), len(self.widths)
            raise ValueError(f"arch: got {depths} depths and {widths} widths, want as many of both")
        for name, values in (("depths", self.depths), ("widths", self.widths)):
            for value in values:
                validate.whole(name, value, 1, MOST)
        validate.whole("stem_width", self.stem_width, 1, MOST)

    def scaled(self, factor: float) -> "Architecture":
        """Return the architecture with widths times `factor`, rounded, but at least 1 (D19)."""
        validate.positive("width", factor)
        widest = max(*self.widths, self.stem_width, self.hidden)
        if widest * factor > MOST:
            raise ValueError(f"width: got {factor!r}, want at most {MOST / widest:g}")

        def scale(width: int) -> int:
            return max(1, round(width * factor))

        return replace(
            self,
            widths=tuple(map(scale, self.widths)),
            stem_width=scale(self.stem_width),
            hidden=scale(self.hidden) if self.hidden else 0,
        )


def four_stages(*depths: int, stem: Stem = CIFAR_STEM) -> Architecture:
    """Return an architecture with the widths of ResNet18 and 34, and these depths."""
    return Architecture(depths, (64, 128, 256, 512), 64, stem)


ARCHITECTURES = {
    "resnet18": four_stages(2, 2, 2, 2),  # D19
    "resnet34": four_stages(3, 4, 6, 3),  # D19
    "resnet18-imagenet": four_stages(2, 2, 2, 2, stem=IMAGENET_STEM),
    "resnet34-imagenet": four_stages(3, 4, 6, 3, stem=IMAGENET_STEM),
    "resnet19": Architecture((3, 3, 2), (128, 256, 512), 128),  # D20
    "resnet19-tet": Architecture((3, 3, 2), (128, 256, 512), 64, hidden=256),
    "resnet8": Architecture((1, 1, 1), (16, 32, 64), 16),  # the smallest of resnet20's family
    "resnet20": Architecture((3, 3, 3), (16, 32, 64), 16),  # D21
    "resnet20m": four_stages(2, 2, 2, 2, stem=TRIPLE_STEM),  # D21
}


def architecture(name: str) -> Architecture:
    """Return an architecture by name, or a custom one from `depths:widths`, as 2-2-2:16-32-64."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    try:
        depths, widths = (tuple(map(int, part.split("-"))) for part in name.split(":"))
    except ValueError:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(
            f"arch: got {validate.shown(name)}, want one of {known}, or depths:widths such as "
            "2-2-2:16-32-64"
        ) from None
    return Architecture(depths, widths, widths[0])
