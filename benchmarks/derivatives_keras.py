"""nbkeras's models whose steps have derivatives of second order: see WORKLOADS.

`fit` calls `train_step`, a plain loop calls `update`, recorded by `nbkeras.jit`. Keras itself offers no gradients that work on
all its backends, so these run in nbkeras only.
"""

from chosen_keras import k
from workloads import ADAM, INNER_RATE, LATENT, PENALTY, VISCOSITY


class Tracked(k.Model):
    """A model whose `update(x, y)` changes the weights and returns the loss; `fit` reports the mean of the losses."""

    def __init__(self):
        super().__init__()
        self.mean = k.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.mean]

    def train_step(self, data):
        x, y, _ = k.utils.unpack_x_y_sample_weight(data)
        self.mean.update_state(self.update(x, y))
        return {"loss": self.mean.result()}


class WganGp(Tracked):
    def __init__(self):
        super().__init__()
        transposed = {"strides": 2, "padding": "same"}
        layers = [k.layers.Dense(7 * 7 * 64, activation="relu"), k.layers.Reshape((7, 7, 64))]
        layers += [k.layers.Conv2DTranspose(32, 4, activation="relu", **transposed)]
        layers += [k.layers.Conv2DTranspose(1, 4, activation="sigmoid", **transposed)]
        self.generator = k.Sequential([k.Input(shape=(LATENT,)), *layers])
        layers = [k.layers.Conv2D(32, 3, 2, padding="same"), k.layers.LeakyReLU(negative_slope=0.2)]
        layers += [k.layers.Conv2D(64, 3, 2, padding="same"), k.layers.LeakyReLU(negative_slope=0.2)]
        self.critic = k.Sequential([k.Input(shape=(28, 28, 1)), *layers, k.layers.Flatten(), k.layers.Dense(1)])
        self.optimizers = k.optimizers.Adam(ADAM["wgan_gp"]), k.optimizers.Adam(ADAM["wgan_gp"])
        self.seeds = k.random.SeedGenerator(0)

    def noise(self, real):
        return k.random.normal((len(real), LATENT), seed=self.seeds)

    def critic_loss(self, real, fake):
        share = k.random.uniform((len(real), 1, 1, 1), seed=self.seeds)
        mixed = share * real + (1 - share) * fake
        with k.GradientTape() as tape:
            tape.watch(mixed)
            judged = self.critic(mixed)
        slopes = tape.gradient(judged, mixed)
        norms = k.ops.sqrt(k.ops.sum(k.ops.square(slopes), axis=(1, 2, 3)))
        penalty = k.ops.mean(k.ops.square(norms - 1))
        return k.ops.mean(self.critic(fake)) - k.ops.mean(self.critic(real)) + PENALTY * penalty

    def update(self, real, _):
        fake = self.generator(self.noise(real))
        with k.GradientTape() as tape:
            loss = self.critic_loss(real, fake)
        weights = self.critic.trainable_weights
        self.optimizers[0].apply(tape.gradient(loss, weights), weights)
        with k.GradientTape() as tape:
            generator_loss = -k.ops.mean(self.critic(self.generator(self.noise(real))))
        weights = self.generator.trainable_weights
        self.optimizers[1].apply(tape.gradient(generator_loss, weights), weights)
        return loss


class Stepping(Tracked):
    """A model of one network that minimizes `loss_of` a batch."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def update(self, x, y):
        with k.GradientTape() as tape:
            loss = self.loss_of(x, y)
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return loss


class Burgers(Stepping):
    def loss_of(self, xs, edge_u):
        inside, edge = xs
        x, t = inside[:, :1], inside[:, 1:]
        with k.GradientTape() as second:
            second.watch(x)
            with k.GradientTape() as first:
                first.watch([x, t])
                u = self.network(k.ops.concatenate([x, t], axis=1))
            u_x, u_t = first.gradient(u, [x, t])
        residual = u_t + u * u_x - VISCOSITY * second.gradient(u_x, x)
        return k.ops.mean(k.ops.square(residual)) + k.ops.mean(k.ops.square(self.network(edge) - edge_u))


class Maml(Stepping):
    def error(self, weights, x, y):
        return k.ops.mean(k.ops.square(self.network.stateless_call(weights, [], x)[0] - y))

    def of_task(self, support_x, support_y, query_x, query_y):
        weights = list(self.trainable_weights)
        slopes = k.autodiff.grad(self.error)(weights, support_x, support_y)
        adapted = [weight - INNER_RATE * slope for weight, slope in zip(weights, slopes, strict=True)]
        return self.error(adapted, query_x, query_y)

    def loss_of(self, tasks, _):
        return k.ops.mean(k.autodiff.vmap(self.of_task)(*tasks))


class LstmSlopes(Stepping):
    def loss_of(self, x, y):
        with k.GradientTape() as tape:
            tape.watch(x)
            loss = k.ops.mean(k.ops.binary_crossentropy(y, self.network(x), from_logits=True))
        return loss + PENALTY * k.ops.sum(k.ops.square(tape.gradient(loss, x)))


def wgan_gp(batch):
    model = WganGp()
    model.compile()
    return model


def burgers(batch):
    layers = [k.layers.Dense(50, activation="tanh") for _ in range(4)]
    model = Burgers(k.Sequential([k.Input(shape=(2,)), *layers, k.layers.Dense(1)]))
    model.compile(optimizer=k.optimizers.Adam(ADAM["burgers"]))
    return model


def maml(batch):
    layers = [k.layers.Dense(40, activation="relu") for _ in range(2)]
    model = Maml(k.Sequential([k.Input(shape=(1,)), *layers, k.layers.Dense(1)]))
    model.compile(optimizer=k.optimizers.Adam(ADAM["maml"]))
    return model


def lstm_slopes(batch):
    model = LstmSlopes(k.Sequential([k.Input(shape=(50, 32)), k.layers.LSTM(64), k.layers.Dense(1)]))
    model.compile(optimizer=k.optimizers.Adam(ADAM["lstm_slopes"]))
    return model
