"""nbkeras as Keras 2.3.1: `install.py` sets its behaviour, and the other modules have the names that only Keras 2 has."""
