"""Models and layers in the state in which a test uses them."""

from nbkeras.models import load_model


def compiled(model, optimizer="sgd", loss="mse", **options):
    """The model, compiled."""
    model.compile(optimizer, loss, **options)
    return model


def built(layer, *shape):
    """The layer or optimizer, built for a shape or for variables."""
    layer.build(*shape)
    return layer


def reloaded(model, path):
    """The model that a file has in which this one was saved."""
    model.save(path)
    return load_model(path)
