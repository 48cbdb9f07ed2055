"""Builds in a temporary folder: `pip install .` leaves no build/ and no nbkeras.egg-info/ in a checkout."""

import tempfile

from setuptools import setup

with tempfile.TemporaryDirectory() as folder:
    setup(options={"build": {"build_base": folder}, "egg_info": {"egg_base": folder}})
