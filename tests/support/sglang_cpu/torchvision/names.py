"""A class of any name that is asked for."""


def any_name(name: str) -> type:
    """For a module's `__getattr__`."""
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__doc__": "A name of torchvision; it does nothing."})
