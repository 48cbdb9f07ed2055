"""Keras's older spellings, and `import keras` that means nbkeras. The core knows nothing of what is in here.

spellings: the older names that `import nbkeras` accepts too. The rest is imported by `install_as_keras` only.
"""
