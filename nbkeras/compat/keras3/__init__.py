"""nbkeras as Keras 3: internal names of Keras that released packages use. docs/packages.md lists them."""
