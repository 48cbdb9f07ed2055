"""Models as users write them: a subclass around a layer, and a training step of one's own."""

from nbkeras import GradientTape, Model, ops


class Around(Model):
    """A subclass that calls the layer that it is given."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)


class OwnStep(Model):
    """The training step of Keras's guides, for the squared error."""

    def train_step(self, data):
        x, y = data
        with GradientTape() as tape:
            loss = ops.mean(ops.square(self(x, training=True) - y))
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"loss": loss}


class OwnStepAround(OwnStep, Around):
    """Both."""
