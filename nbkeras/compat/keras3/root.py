"""Names of the module `keras` of Keras 3 in addition to nbkeras's."""

__version__ = "3.15.1"  # the version that docs/keras-parity.md compares with; packages check it


def version() -> str:
    """The version of Keras 3 whose names and behaviour nbkeras has."""
    return __version__
