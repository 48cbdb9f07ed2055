"""Plain JAX: one jitted training step over a dict of parameters, with Keras's optimizers implemented here."""

import functools
import itertools
import time

import derivatives_jax
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from protocol import Job, NoGpu, batches, serve
from workloads import ADAM, L2, MOBILENET, SECOND_ORDER, WAKE_WORD


def dense(random, inputs, units):
    limit = np.sqrt(6 / (inputs + units))
    return {"w": random.uniform(-limit, limit, (inputs, units)), "b": np.zeros(units)}


def lstm(random, inputs, units):
    cell = dense(random, inputs, 4 * units)
    return cell | {"u": np.linalg.qr(random.standard_normal((4 * units, units)))[0].T}


def apply_dense(p, x):
    return x @ p["w"] + p["b"]


def apply_lstm(p, x, state=None):
    """The whole sequence (batch, time, units) and the last state, for x (batch, time, inputs)."""
    units = p["u"].shape[0]
    state = state or (jnp.zeros((x.shape[0], units)), jnp.zeros((x.shape[0], units)))

    def step(carry, z):
        h, c = carry
        i, f, g, o = jnp.split(z + h @ p["u"], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    state, sequence = lax.scan(step, state, jnp.swapaxes(apply_dense(p, x), 0, 1))
    return jnp.swapaxes(sequence, 0, 1), state


def he_normal(random, *shape):
    return random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))


def conv(random, size, channels, filters):
    height, width = size if isinstance(size, tuple) else (size, size)
    return {"w": he_normal(random, height, width, channels, filters), "b": np.zeros(filters)}


def norm(filters):
    return {"gamma": np.ones(filters), "beta": np.zeros(filters)}


def depthwise_pair(random, name, channels, filters):
    """A depthwise and a pointwise convolution."""
    depthwise = {"depthwise": he_normal(random, 3, 3, 1, channels), "b": np.zeros(channels)} | norm(channels)
    return {name + "d": depthwise, name + "p": conv(random, 1, channels, filters) | norm(filters)}


def apply_conv(p, x, strides=1, padding="SAME"):
    kernel, groups = (p["depthwise"], x.shape[-1]) if "depthwise" in p else (p["w"], 1)
    layout = ("NHWC", "HWIO", "NHWC")
    z = lax.conv_general_dilated(
        x, kernel, (strides, strides), padding, dimension_numbers=layout, feature_group_count=groups
    )
    return z + p["b"] if "b" in p else z


def halved(x):
    """Max pooling of 2 x 2 squares."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def moving_statistics(p):
    """The initial moving means and variances of the layers with batch normalization; None if there are none."""
    normed = {name: layer["gamma"].shape for name, layer in p.items() if isinstance(layer, dict) and "gamma" in layer}
    return {name: (jnp.zeros(shape), jnp.ones(shape)) for name, shape in normed.items()} or None


def batch_norm(p, x, moving, training):
    """Batch normalization with Keras's settings, and the new moving statistics."""
    if not training:
        mean, variance = moving
    else:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
        moving = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new, moving, (mean, variance))
    return (x - mean) * (lax.rsqrt(variance + 1e-3) * p["gamma"]) + p["beta"], moving


def normalized(p, states, training):
    """A function that applies a layer and its batch normalization, and the dict that receives the moving statistics."""
    after = {}

    def layer(name, x, *settings):
        z = apply_conv(p[name], x, *settings) if x.ndim == 4 else apply_dense(p[name], x)
        z, after[name] = batch_norm(p[name], z, states[name], training)
        return z

    return layer, after


def apply_pair(layer, name, x, strides=1):
    x = jax.nn.relu(layer(name + "d", x, strides))
    return jax.nn.relu(layer(name + "p", x))


def dropout(x, rate, key):
    if key is None:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def split(key, count):
    return [None] * count if key is None else jax.random.split(key, count)


def mlp_init(random):
    return {"1": dense(random, 784, 512), "2": dense(random, 512, 512), "3": dense(random, 512, 10)}


def mlp(p, xs, key, states):
    first, second = split(key, 2)
    x = dropout(jax.nn.relu(apply_dense(p["1"], xs[0])), 0.2, first)
    x = dropout(jax.nn.relu(apply_dense(p["2"], x)), 0.2, second)
    return [apply_dense(p["3"], x)], states


def stack_init(random):
    layers = {"1": lstm(random, 16, 32), "2": lstm(random, 32, 32), "3": lstm(random, 32, 32)}
    return layers | {"out": dense(random, 32, 10)}


def stack(p, xs, key, states):
    x, after = xs[0], []
    for name, state in zip("123", states or [None] * 3, strict=True):
        x, state = apply_lstm(p[name], x, state)
        after.append(state)
    return [apply_dense(p["out"], x[:, -1])], after


def headline_init(random):
    embedding = {"embedding": random.uniform(-0.05, 0.05, (10000, 512)), "lstm": lstm(random, 512, 32)}
    layers = {name: dense(random, inputs, 64) for name, inputs in (("1", 37), ("2", 64), ("3", 64))}
    return embedding | layers | {"aux": dense(random, 32, 1), "main": dense(random, 64, 1)}


def headline(p, xs, key, states):
    words, more = xs
    encoded = apply_lstm(p["lstm"], p["embedding"][words])[0][:, -1]
    x = jnp.concatenate([encoded, more], axis=1)
    for name in "123":
        x = jax.nn.relu(apply_dense(p[name], x))
    return [apply_dense(p["main"], x), apply_dense(p["aux"], encoded)], states


def tweets_init(random):
    return {"lstm": lstm(random, 256, 64), "out": dense(random, 128, 1)}


def tweets(p, xs, key, states):
    encoded = [apply_lstm(p["lstm"], x)[0][:, -1] for x in xs]
    return [apply_dense(p["out"], jnp.concatenate(encoded, axis=1))], states


def cnn_init(random):
    first = {"w": random.standard_normal((3, 3, 1, 32)) * 0.1, "b": np.zeros(32)}
    second = {"w": random.standard_normal((3, 3, 32, 64)) * 0.05, "b": np.zeros(64)}
    return {"1": first, "2": second, "3": dense(random, 9216, 128), "4": dense(random, 128, 10)}


def cnn(p, xs, key, states):
    first, second = split(key, 2)
    x = xs[0]
    for name in "12":
        x = jax.nn.relu(apply_conv(p[name], x, padding="VALID"))
    x = dropout(halved(x), 0.25, first).reshape(x.shape[0], -1)
    x = dropout(jax.nn.relu(apply_dense(p["3"], x)), 0.5, second)
    return [apply_dense(p["4"], x)], states


def imdb_init(random):
    return {"lstm": lstm(random, 128, 128), "out": dense(random, 128, 1)}


def imdb(p, xs, key, states):
    return [apply_dense(p["out"], apply_lstm(p["lstm"], xs[0])[0][:, -1])], states


def resnet8_init(random):
    p = {"stem": conv(random, 3, 3, 16) | norm(16)}
    for name, channels, filters in (("1", 16, 16), ("2", 16, 32), ("3", 32, 64)):
        p[name + "a"] = conv(random, 3, channels, filters) | norm(filters)
        p[name + "b"] = conv(random, 3, filters, filters) | norm(filters)
        if channels != filters:
            p[name] = conv(random, 1, channels, filters)
    return p | {"out": dense(random, 64, 10)}


def resnet8(p, xs, key, states):
    layer, after = normalized(p, states, training=key is not None)
    x = jax.nn.relu(layer("stem", xs[0]))
    for name, strides in (("1", 1), ("2", 2), ("3", 2)):
        y = layer(name + "b", jax.nn.relu(layer(name + "a", x, strides)))
        x = jax.nn.relu(y + (apply_conv(p[name], x, strides) if name in p else x))
    return [apply_dense(p["out"], x.mean((1, 2)))], after


def ds_cnn_init(random):
    p = {"stem": conv(random, (10, 4), 1, 64) | norm(64)}
    for name in "1234":
        p |= depthwise_pair(random, name, 64, 64)
    return p | {"out": dense(random, 64, 12)}


def ds_cnn(p, xs, key, states):
    layer, after = normalized(p, states, training=key is not None)
    first, second = split(key, 2)
    x = dropout(jax.nn.relu(layer("stem", xs[0], 2)), 0.2, first)
    for name in "1234":
        x = apply_pair(layer, name, x)
    x = dropout(x, 0.4, second)
    return [apply_dense(p["out"], x[:, :24].mean((1, 2)))], after


def mobilenet_init(random):
    p, channels = {"stem": conv(random, 3, 3, 8) | norm(8)}, 8
    for number, (filters, _) in enumerate(MOBILENET):
        p |= depthwise_pair(random, str(number), channels, filters)
        channels = filters
    return p | {"out": dense(random, channels, 2)}


def mobilenet(p, xs, key, states):
    layer, after = normalized(p, states, training=key is not None)
    x = jax.nn.relu(layer("stem", xs[0], 2))
    for number, (_, strides) in enumerate(MOBILENET):
        x = apply_pair(layer, str(number), x, strides)
    return [apply_dense(p["out"], x.mean((1, 2)))], after


def autoencoder_init(random):
    sizes = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)
    pairs = enumerate(itertools.pairwise(sizes))
    p = {str(number): dense(random, inputs, units) | norm(units) for number, (inputs, units) in pairs}
    return p | {"out": dense(random, 128, 640)}


def autoencoder(p, xs, key, states):
    layer, after = normalized(p, states, training=key is not None)
    x = xs[0]
    for number in range(9):
        x = jax.nn.relu(layer(str(number), x))
    return [apply_dense(p["out"], x)], after


def wake_word_init(random):
    p, channels = {}, 40
    for number, (filters, size) in enumerate(WAKE_WORD):
        p[f"{number}d"] = {"depthwise": he_normal(random, size, 1, 1, channels)}
        p[f"{number}p"] = {"w": he_normal(random, 1, 1, channels, filters)} | norm(filters)
        channels = filters
    return p | {"out": dense(random, channels, 3)}


def wake_word(p, xs, key, states):
    layer, after = normalized(p, states, training=key is not None)
    x = xs[0]
    for number, mine in enumerate(split(key, len(WAKE_WORD))):
        x = apply_conv(p[f"{number}d"], x, padding="VALID")
        x = dropout(jax.nn.relu(layer(f"{number}p", x)), 0.2, mine)
    return [apply_dense(p["out"], x.reshape(x.shape[0], -1))], after


def transformer_init(random):
    p = {"words": random.uniform(-0.05, 0.05, (8000, 64)), "positions": random.uniform(-0.05, 0.05, (64, 64))}
    for name in "12":
        p |= {name + part: dense(random, 64, 64) for part in ("query", "key", "value", "heads")}
        p |= {name + "wide": dense(random, 64, 256), name + "narrow": dense(random, 256, 64)}
        p |= {name + "first": scale(64), name + "second": scale(64)}
    return p | {"out": dense(random, 64, 4)}


def scale(width):
    return {"scale": np.ones(width), "offset": np.zeros(width)}


def layer_norm(p, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * p["scale"] + p["offset"]


def attention(p, name, x, key):
    """Self-attention with 4 heads."""
    batch, length, width = x.shape
    q, k, v = (apply_dense(p[name + part], x).reshape(batch, length, 4, -1) for part in ("query", "key", "value"))
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(width // 4))
    heads = jnp.einsum("bhqk,bkhd->bqhd", dropout(weights, 0.1, key), v)
    return apply_dense(p[name + "heads"], heads.reshape(batch, length, width))


def transformer(p, xs, key, states):
    keys = split(key, 8)
    x = p["words"][xs[0]] + p["positions"]
    for name, (first, second, third, fourth) in (("1", keys[:4]), ("2", keys[4:])):
        y = attention(p, name, x, first)
        x = layer_norm(p[name + "first"], x + dropout(y, 0.1, second))
        y = dropout(jax.nn.relu(apply_dense(p[name + "wide"], x)), 0.1, third)
        x = layer_norm(p[name + "second"], x + dropout(apply_dense(p[name + "narrow"], y), 0.1, fourth))
    return [apply_dense(p["out"], x.mean(1))], states


def unet_init(random):
    levels = (("1", 3, 16), ("2", 16, 32), ("3", 32, 64), ("4", 64, 32), ("5", 32, 16))
    p = {name + "a": conv(random, 3, channels, filters) for name, channels, filters in levels}
    p |= {name + "b": conv(random, 3, filters, filters) for name, _, filters in levels}
    return p | {"4": conv(random, 2, 64, 32), "5": conv(random, 2, 32, 16), "out": conv(random, 1, 16, 1)}


def unet(p, xs, key, states):
    def two_convolutions(name, x):
        return jax.nn.relu(apply_conv(p[name + "b"], jax.nn.relu(apply_conv(p[name + "a"], x))))

    first = two_convolutions("1", xs[0])
    second = two_convolutions("2", halved(first))
    x = two_convolutions("3", halved(second))
    for name, skipped in (("4", second), ("5", first)):
        x = lax.conv_transpose(x, p[name]["w"], (2, 2), "VALID") + p[name]["b"]
        x = two_convolutions(name, jnp.concatenate([skipped, x], axis=-1))
    return [apply_conv(p["out"], x)], states


NETWORKS = {
    "mlp": (mlp_init, mlp),
    "lstm_stack": (stack_init, stack),
    "lstm_stateful": (stack_init, stack),
    "headline": (headline_init, headline),
    "tweets": (tweets_init, tweets),
    "cnn": (cnn_init, cnn),
    "lstm_imdb": (imdb_init, imdb),
    "resnet8": (resnet8_init, resnet8),
    "ds_cnn": (ds_cnn_init, ds_cnn),
    "mobilenet": (mobilenet_init, mobilenet),
    "autoencoder": (autoencoder_init, autoencoder),
    "wake_word": (wake_word_init, wake_word),
    "transformer": (transformer_init, transformer),
    "unet": (unet_init, unet),
}


def loss_of(network, outputs, targets):
    """The loss and the number of right predictions of the first output.

    Cross-entropies are from logits; a second output has the weight 0.2.
    """
    if network == "autoencoder":
        return jnp.mean(jnp.square(outputs[0] - targets[0])), 0
    total, right = 0.0, 0
    for z, y, weight in zip(outputs, targets, (1.0, 0.2), strict=False):
        if y.ndim == 1:  # numbers of classes
            total -= weight * jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1))
            right = jnp.sum(z.argmax(1) == y)
        elif y.shape[-1] == 1:
            total += weight * jnp.mean(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))))
            right = right if weight < 1 else jnp.sum((z > 0) == (y > 0.5))
        else:
            total -= weight * jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=1))
            right = jnp.sum(z.argmax(1) == y.argmax(1))
    return total, right


def penalty(network, p):
    """The L2 penalty of the convolutions."""
    kernels = [layer["w"] for layer in p.values() if "w" in layer and layer["w"].ndim == 4] if network in L2 else []
    return sum(L2[network] * jnp.sum(kernel * kernel) for kernel in kernels)


def rmsprop(p, g, slots, count):
    square = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g * g, slots, g)
    return jax.tree.map(lambda p, g, v: p - 0.001 * g * lax.rsqrt(v + 1e-7), p, g, square), square


def adam(p, g, slots, count, rate):
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, slots[0], g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, slots[1], g)
    rate = rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), p, m, v), (m, v)


def on_gpu():
    """Make JAX compute on the GPU, in full float32; return a function that gives the GPU memory it has used."""
    try:
        gpu = jax.devices("cuda")[0]
    except RuntimeError as error:
        raise NoGpu(f"JAX: {' '.join(str(error).split())}") from error
    jax.config.update("jax_default_matmul_precision", "highest")  # its default is TF32
    return lambda: gpu.memory_stats()["peak_bytes_in_use"]


def jitted_step(network, forward, update):
    """A function of (p, slots, states, key, count, total loss, right predictions) and a batch that returns their new values."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry, x, y):
        p, slots, states, key, count, total, right = carry
        key, mine = jax.random.split(key)

        def objective(p):
            outputs, after = forward(p, x, mine, states)
            loss, correct = loss_of(network, outputs, y)
            return loss + penalty(network, p), (after if states is not None else None, correct)

        (loss, (states, correct)), g = jax.value_and_grad(objective, has_aux=True)(p)
        p, slots = update(p, g, slots, count)
        return p, slots, states, key, count + 1, total + loss, right + correct

    return step


def jitted_step_of_parts(network, update):
    """The same for weights in parts, which are trained one after the other."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry, x, y):
        parts, slots, states, key, count, total, right = carry
        parts, (first, second), losses = list(parts), slots, []
        first, second = list(first), list(second)
        for i, loss in enumerate(derivatives_jax.LOSSES[network]):
            key, mine = jax.random.split(key)
            value, g = jax.value_and_grad(loss)(parts[i], parts, [*x, *y], mine)
            parts[i], (first[i], second[i]) = update(parts[i], g, (first[i], second[i]), count)
            losses.append(value)
        return parts, (first, second), states, key, count + 1, total + losses[0], right

    return step


def prepare(framework, workload, xs, ys, device) -> Job:
    network = workload.network
    gpu_bytes = on_gpu() if device == "cuda" else None
    if network in SECOND_ORDER:
        start, forward = (
            functools.partial(derivatives_jax.INITS[network], {"dense": dense, "conv": conv, "lstm": lstm}),
            None,
        )
    else:
        start, forward = NETWORKS[network]
    p = jax.tree.map(lambda a: jnp.asarray(a, "float32"), start(np.random.RandomState(0)))
    zeros = jax.tree.map(jnp.zeros_like, p)
    update, slots = rmsprop, zeros
    if network in ADAM:
        update, slots = functools.partial(adam, rate=ADAM[network]), (zeros, zeros)
    states = moving = moving_statistics(p) if forward else None
    if network == "lstm_stateful":
        states = [(jnp.zeros((workload.batch, 32)), jnp.zeros((workload.batch, 32))) for _ in range(3)]
    step = jitted_step(network, forward, update) if forward else jitted_step_of_parts(network, update)

    @jax.jit
    def infer(p, x, states):
        outputs = forward(p, x, None, states)[0][0]
        return outputs if network == "autoencoder" else jax.nn.softmax(outputs)

    carry = jax.tree.map(jnp.copy, (p, slots, states, jax.random.key(0), jnp.float32(1), jnp.float32(0), jnp.int32(0)))

    def epochs(count):
        nonlocal carry
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            carry = (*carry[:5], jnp.float32(0), jnp.int32(0))
            rows_of_batches = batches(len(xs[0]), workload.batch, shuffle=network != "lstm_stateful")
            for rows in rows_of_batches:
                carry = step(carry, [x[rows] for x in xs], [y[rows] for y in ys])
            loss = float(jax.block_until_ready(carry)[5]) / len(rows_of_batches)
            seconds.append(time.perf_counter() - start)
        return seconds, loss

    def predict(arrays):
        x, size = arrays[0], workload.batch
        return np.concatenate([infer(carry[0], [x[i : i + size]], carry[2]) for i in range(0, len(x), size)])

    parameters = sum(leaf.size for leaf in jax.tree.leaves((p, moving)))
    return Job(parameters, {"jax": jax.__version__}, epochs, predict, gpu_bytes)


if __name__ == "__main__":
    serve(prepare)
