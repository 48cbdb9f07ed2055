"""Names of the module `keras` in addition to nbkeras's."""

__version__ = "2.3.1"  # the last version of Keras 2; scripts check it
