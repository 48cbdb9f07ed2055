"""What `keras` itself shows besides the names of nbkeras."""

__version__ = "2.3.1"  # the last Keras that scripts for Keras 2 were written for; they ask for it
