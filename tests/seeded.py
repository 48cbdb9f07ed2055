"""Runs a Keras program with a fixed seed: `python -m nbkeras --keras 3 tests/seeded.py PROGRAM`."""

import runpy
import sys

import keras

keras.utils.set_random_seed(0)
runpy.run_path(sys.argv[1], run_name="__main__")
