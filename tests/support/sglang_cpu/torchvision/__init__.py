"""Stands in for torchvision, whose builds on package indexes are for CUDA: names, without what they do.

SGLang and transformers import them for images, also where only text is served.
"""

__version__ = "0.26"
