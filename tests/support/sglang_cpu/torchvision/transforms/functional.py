"""Names only, save the one whose members are used in default values."""

from enum import Enum

from torchvision.names import any_name as __getattr__  # noqa: F401


class InterpolationMode(Enum):
    """How images are resized."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"
