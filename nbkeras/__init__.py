"""nbkeras: Keras's API on a Numba-compiled tape that replays."""

try:
    import nbkeras.kernels  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "nbkeras.kernels":
        raise
    raise ImportError(
        f"nbkeras was imported from its source folder {__path__[0]}, where its compiled part, kernels/, is not in place. "
        "To use the installed nbkeras, run Python from another folder or with -P (PYTHONSAFEPATH=1); to work on this "
        "source, install it with `pip install -e .`"
    ) from None
