"""JAX's losses with derivatives of second order, and the first weights of their networks: see WORKLOADS.

The weights of a network are a list of parts, which are trained one after the other: LOSSES has a function for each part, of (the
part's weights, all parts, batch, key). INITS: functions of run_jax.py's layers and a source of random numbers.
"""

import jax
from jax import lax
from jax import numpy as jnp
from workloads import INNER_RATE, LATENT, PENALTY, VISCOSITY


def mlp(p, x, activation):
    *hidden, last = (p[name] for name in sorted(p))
    for layer in hidden:
        x = activation(x @ layer["w"] + layer["b"])
    return x @ last["w"] + last["b"]


def leaky_relu(x):
    return jax.nn.leaky_relu(x, 0.2)


def wgan_gp_init(layers, random):
    dense, conv = layers["dense"], layers["conv"]
    generator = {"0": dense(random, LATENT, 7 * 7 * 64), "1": conv(random, 4, 64, 32), "2": conv(random, 4, 32, 1)}
    critic = {"0": conv(random, 3, 1, 32), "1": conv(random, 3, 32, 64), "2": dense(random, 7 * 7 * 64, 1)}
    return [critic, generator]


def generated(p, noise):
    x = jax.nn.relu(noise @ p["0"]["w"] + p["0"]["b"]).reshape(-1, 7, 7, 64)
    x = jax.nn.relu(lax.conv_transpose(x, p["1"]["w"], (2, 2), "SAME") + p["1"]["b"])
    return jax.nn.sigmoid(lax.conv_transpose(x, p["2"]["w"], (2, 2), "SAME") + p["2"]["b"])


def judged(p, x):
    for name in ("0", "1"):
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, p[name]["w"], (2, 2), "SAME", dimension_numbers=dimensions)
        x = leaky_relu(x + p[name]["b"])
    return x.reshape(len(x), -1) @ p["2"]["w"] + p["2"]["b"]


def critic_loss(critic, parts, batch, key):
    (real,) = batch
    noise_key, share_key = jax.random.split(key)
    fake = generated(parts[1], jax.random.normal(noise_key, (len(real), LATENT)))
    share = jax.random.uniform(share_key, (len(real), 1, 1, 1))
    slopes = jax.grad(lambda x: judged(critic, x).sum())(share * real + (1 - share) * fake)
    norms = jnp.sqrt(jnp.square(slopes).reshape(len(real), -1).sum(axis=1))
    return judged(critic, fake).mean() - judged(critic, real).mean() + PENALTY * jnp.square(norms - 1).mean()


def generator_loss(generator, parts, batch, key):
    noise = jax.random.normal(key, (len(batch[0]), LATENT))
    return -judged(parts[0], generated(generator, noise)).mean()


def burgers_init(layers, random):
    sizes = (2, 50, 50, 50, 50, 1)
    return [{str(i): layers["dense"](random, *pair) for i, pair in enumerate(zip(sizes[:-1], sizes[1:], strict=True))}]


def burgers_loss(p, parts, batch, key):
    inside, edge, edge_u = batch

    def u(x, t):
        return mlp(p, jnp.stack([x, t]), jnp.tanh)[0]

    def residual(x, t):
        u_of_x = lambda x: jax.value_and_grad(u, (0, 1))(x, t)  # noqa: E731
        (value, (u_x, u_t)), (_, (u_xx, _)) = jax.jvp(u_of_x, (x,), (1.0,))
        return u_t + value * u_x - VISCOSITY * u_xx

    found = jax.vmap(residual)(inside[:, 0], inside[:, 1])
    return jnp.square(found).mean() + jnp.square(mlp(p, edge, jnp.tanh) - edge_u).mean()


def maml_init(layers, random):
    dense = layers["dense"]
    return [{"0": dense(random, 1, 40), "1": dense(random, 40, 40), "2": dense(random, 40, 1)}]


def maml_loss(p, parts, batch, key):
    def error(p, x, y):
        return jnp.square(mlp(p, x, jax.nn.relu) - y).mean()

    def of_task(support_x, support_y, query_x, query_y):
        slopes = jax.grad(error)(p, support_x, support_y)
        adapted = jax.tree.map(lambda w, g: w - INNER_RATE * g, p, slopes)
        return error(adapted, query_x, query_y)

    return jax.vmap(of_task)(*batch).mean()


def lstm_slopes_init(layers, random):
    return [{"lstm": layers["lstm"](random, 32, 64), "out": layers["dense"](random, 64, 1)}]


def lstm_slopes_loss(p, parts, batch, key):
    def loss(x):
        def step(states, z):
            h, c = states
            i, f, g, o = jnp.split(z + h @ p["lstm"]["u"], 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((len(x), 64))
        sequence = jnp.swapaxes(x @ p["lstm"]["w"] + p["lstm"]["b"], 0, 1)
        (h, _), _ = lax.scan(step, (zeros, zeros), sequence)
        z = h @ p["out"]["w"] + p["out"]["b"]
        return jnp.mean(jnp.maximum(z, 0) - z * batch[1] + jnp.log1p(jnp.exp(-jnp.abs(z))))

    value, slopes = jax.value_and_grad(loss)(batch[0])
    return value + PENALTY * jnp.square(slopes).sum()


INITS = {"wgan_gp": wgan_gp_init, "burgers": burgers_init, "maml": maml_init, "lstm_slopes": lstm_slopes_init}
LOSSES = {
    "wgan_gp": (critic_loss, generator_loss),
    "burgers": (burgers_loss,),
    "maml": (maml_loss,),
    "lstm_slopes": (lstm_slopes_loss,),
}
