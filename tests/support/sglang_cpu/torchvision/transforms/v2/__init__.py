"""Names only."""

from torchvision.names import any_name as __getattr__  # noqa: F401
from torchvision.transforms.functional import InterpolationMode

__all__ = ["InterpolationMode"]
