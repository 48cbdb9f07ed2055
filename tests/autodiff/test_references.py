"""Derivatives of first and second order as in JAX and PyTorch, by every way that leads to them. See make_derivatives.py."""

from pathlib import Path

import derivative_cases as cases
import numpy as np
import pytest

import nbkeras
from nbkeras import autodiff, layers, ops
from nbkeras.models import Sequential

with np.load(Path(__file__).parents[1] / "reference" / "derivatives.npz", allow_pickle=False) as file:
    STORED: dict[str, dict[str, np.ndarray]] = {}
    for key, array in file.items():
        STORED.setdefault(key.partition("/")[0], {})[key.partition("/")[2]] = array

WAYS = {}


def way(case):
    """Decorator of a function from a case's data to its derivatives by name; several ways may lead to the same ones."""

    def add(function):
        WAYS[f"{case}: {function.__name__}"] = case, function
        return function

    return add


def by_name(prefix, tensors):
    return {f"{prefix}_{name}": tensor for name, tensor in tensors.items()}


def floats(data, dtype):
    """Tensors of this dtype; labels and masks as they are."""
    if isinstance(data, dict):
        return {name: floats(value, dtype) for name, value in data.items()}
    return ops.convert_to_tensor(data.astype(dtype) if data.dtype.kind == "f" else data)


@pytest.mark.parametrize("dtype, limit", [("float64", 1e-6), ("float32", 1e-4)])
@pytest.mark.parametrize("name", WAYS)
def test_derivatives_are_those_of_jax_and_pytorch(name, dtype, limit):
    case, function = WAYS[name]
    found, expected = function(**floats(cases.CASES[case](), dtype)), STORED[case]
    assert found.keys() == expected.keys()
    errors = {}
    for label, array in expected.items():
        assert found[label].dtype == dtype, label
        errors[label] = cases.error(array, found[label].numpy())
    assert max(errors.values()) < limit, errors


def test_every_case_has_a_way():
    assert {case for case, _ in WAYS.values()} == set(STORED) == set(cases.CASES)


def mlp(weights, x, activation=ops.tanh):
    last = len(weights) // 2 - 1
    for number in range(last + 1):
        x = ops.matmul(x, weights[f"kernel_{number}"]) + weights[f"bias_{number}"]
        x = activation(x) if number < last else x
    return x


def variables(weights):
    return {name: nbkeras.Variable(weight) for name, weight in weights.items()}


def mean_square(difference):
    return ops.mean(ops.square(difference))


# -------------------- WGAN-GP --------------------


def dense_critic(weights, x):
    return mlp(weights, x, lambda x: ops.leaky_relu(x, cases.SLOPE))


def penalty(slopes):
    norms = ops.sqrt(ops.sum(ops.square(ops.reshape(slopes, (len(slopes), -1))), axis=1))
    return cases.PENALTY * mean_square(norms - 1)


@way("wgan_gp_dense")
def grad_in_value_and_grad(real, fake, share, weights):
    def loss(weights):
        slopes = autodiff.grad(lambda x: ops.sum(dense_critic(weights, x)))(share * real + (1 - share) * fake)
        return ops.mean(dense_critic(weights, fake)) - ops.mean(dense_critic(weights, real)) + penalty(slopes)

    value, gradient = autodiff.value_and_grad(loss)(weights)
    return {"loss": value} | by_name("gradient", gradient)


@way("wgan_gp_dense")
def nested_tapes(real, fake, share, weights):
    weights = variables(weights)
    mixed = share * real + (1 - share) * fake
    with nbkeras.GradientTape() as outer:
        with nbkeras.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(mixed)
            judged = dense_critic(weights, mixed)
        slopes = inner.gradient(judged, mixed)
        loss = ops.mean(dense_critic(weights, fake) - dense_critic(weights, real)) + penalty(slopes)
    return {"loss": loss} | by_name("gradient", outer.gradient(loss, weights, unconnected_gradients="zero"))


def conv_critic(weights):
    dtype = str(weights["bias_0"].dtype)
    model = Sequential(
        [
            layers.Conv2D(4, 3, strides=2, padding="same", dtype=dtype),
            layers.LeakyReLU(cases.SLOPE, dtype=dtype),
            layers.Conv2D(3, 2, dtype=dtype),
            layers.LeakyReLU(cases.SLOPE, dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dense(1, dtype=dtype),
        ]
    )
    model.build((None, 6, 6, 2))
    model.set_weights([weight.numpy() for weight in weights.values()])
    return model


@way("wgan_gp_conv")
def layers_in_nested_tapes(real, fake, share, weights):
    critic, mixed = conv_critic(weights), share * real + (1 - share) * fake
    with nbkeras.GradientTape() as outer:
        with nbkeras.GradientTape() as inner:
            inner.watch(mixed)
            judged = critic(mixed)
        loss = ops.mean(critic(fake)) - ops.mean(critic(real)) + penalty(inner.gradient(judged, mixed))
    gradients = outer.gradient(loss, critic.trainable_variables)
    return {"loss": loss} | by_name("gradient", dict(zip(weights, gradients, strict=True)))


@way("wgan_gp_conv")
def stateless_call(real, fake, share, weights):
    model = conv_critic(weights)

    def critic(values, x):
        return model.stateless_call(values, [], x)[0]

    def loss(values):
        slopes = autodiff.grad(lambda x: ops.sum(critic(values, x)))(share * real + (1 - share) * fake)
        return ops.mean(critic(values, fake)) - ops.mean(critic(values, real)) + penalty(slopes)

    value, gradients = autodiff.value_and_grad(loss)(list(weights.values()))
    return {"loss": value} | by_name("gradient", dict(zip(weights, gradients, strict=True)))


# -------------------- MAML --------------------


def squared(weights, x, y):
    return mean_square(mlp(weights, x) - y)


def adapted(weights, x, y):
    for _ in range(cases.INNER_STEPS):
        slopes = autodiff.grad(squared)(weights, x, y)
        weights = {name: weight - cases.INNER_RATE * slopes[name] for name, weight in weights.items()}
    return weights


@way("maml")
def tasks_in_a_loop(support_x, support_y, query_x, query_y, weights):
    def loss(weights):
        each = [squared(adapted(weights, support_x[i], support_y[i]), query_x[i], query_y[i]) for i in range(3)]
        return ops.mean(ops.stack(each))

    value, gradient = autodiff.value_and_grad(loss)(weights)
    return {"loss": value} | by_name("gradient", gradient)


@way("maml")
def tasks_by_vmap(support_x, support_y, query_x, query_y, weights):
    def after(weights, sx, sy, qx, qy):
        return squared(adapted(weights, sx, sy), qx, qy)

    def loss(weights):
        return ops.mean(autodiff.vmap(after, (None, 0, 0, 0, 0))(weights, support_x, support_y, query_x, query_y))

    value, gradient = autodiff.value_and_grad(loss)(weights)
    return {"loss": value} | by_name("gradient", gradient)


@way("maml")
def layers_by_vmap(support_x, support_y, query_x, query_y, weights):
    dtype = str(support_x.dtype)
    model = Sequential(
        [layers.Dense(units, activation, dtype=dtype) for units, activation in ((8, "tanh"), (8, "tanh"), (1, None))]
    )
    model.build((None, 1))

    def error(weights, x, y):
        return mean_square(model.stateless_call(weights, [], x)[0] - y)

    def after(weights, sx, sy, qx, qy):
        for _ in range(cases.INNER_STEPS):
            slopes = autodiff.grad(error)(weights, sx, sy)
            weights = [weight - cases.INNER_RATE * slope for weight, slope in zip(weights, slopes, strict=True)]
        return error(weights, qx, qy)

    def loss(weights):
        return ops.mean(autodiff.vmap(after, (None, 0, 0, 0, 0))(weights, support_x, support_y, query_x, query_y))

    value, gradient = autodiff.value_and_grad(loss)(list(weights.values()))
    return {"loss": value} | by_name("gradient", dict(zip(weights, gradient, strict=True)))


# -------------------- Burgers' equation --------------------


@way("pinn")
def three_tapes(x, t, edge_x, edge_t, edge_u, weights):
    weights = variables(weights)
    with nbkeras.GradientTape() as outer:
        with nbkeras.GradientTape() as second:
            second.watch(x)
            with nbkeras.GradientTape() as first:
                first.watch([x, t])
                u = mlp(weights, ops.concatenate([x, t], axis=1))
            u_x, u_t = first.gradient(u, [x, t])
        u_xx = second.gradient(u_x, x)
        edge = mlp(weights, ops.concatenate([edge_x, edge_t], axis=1)) - edge_u
        loss = mean_square(u_t + u * u_x - cases.VISCOSITY * u_xx) + mean_square(edge)
    slopes = {"u_t": u_t[:, 0], "u_x": u_x[:, 0], "u_xx": u_xx[:, 0]}
    return {"loss": loss} | slopes | by_name("gradient", outer.gradient(loss, weights))


@way("pinn")
def grad_of_grad_by_vmap(x, t, edge_x, edge_t, edge_u, weights):
    def u(weights, x, t):
        return mlp(weights, ops.stack([x, t]))[0]

    def slopes(weights, x, t):
        u_x, u_t = autodiff.grad(u, (1, 2))(weights, x, t)
        return u_t, u_x, autodiff.grad(autodiff.grad(u, 1), 1)(weights, x, t)

    def loss(weights):
        u_t, u_x, u_xx = autodiff.vmap(slopes, (None, 0, 0))(weights, x[:, 0], t[:, 0])
        inside = mlp(weights, ops.concatenate([x, t], axis=1))[:, 0]
        edge = mlp(weights, ops.concatenate([edge_x, edge_t], axis=1)) - edge_u
        return mean_square(u_t + inside * u_x - cases.VISCOSITY * u_xx) + mean_square(edge), (u_t, u_x, u_xx)

    (value, (u_t, u_x, u_xx)), gradient = autodiff.value_and_grad(loss, has_aux=True)(weights)
    return {"loss": value, "u_t": u_t, "u_x": u_x, "u_xx": u_xx} | by_name("gradient", gradient)


# -------------------- Hessian --------------------


def crossentropy(weights, x, labels):
    return ops.mean(ops.sparse_categorical_crossentropy(labels, mlp(weights, x), from_logits=True))


def blocks(found):
    return {f"{a}_{b}": block for a, row in found.items() for b, block in row.items()}


@way("hessian")
def hessian(x, labels, weights):
    return blocks(autodiff.hessian(crossentropy)(weights, x, labels))


@way("hessian")
def reverse_over_reverse(x, labels, weights):
    return blocks(autodiff.jacrev(autodiff.jacrev(crossentropy))(weights, x, labels))


@way("hessian")
def reverse_over_forward(x, labels, weights):
    return blocks(autodiff.jacrev(autodiff.jacfwd(crossentropy))(weights, x, labels))


@way("hessian")
def jacobian_of_a_gradient(x, labels, weights):
    weights = variables(weights)
    with nbkeras.GradientTape(persistent=True) as outer:
        with nbkeras.GradientTape() as inner:
            loss = crossentropy(weights, x, labels)
        slopes = inner.gradient(loss, weights)
    return blocks({name: outer.jacobian(slope, weights) for name, slope in slopes.items()})


# -------------------- Hessian-vector products of sequences --------------------

OPS = {
    "lstm": lambda w, x, mask: ops.lstm(x, w["kernel"], w["recurrent_kernel"], w["bias"], mask=mask)[0],
    "gru": lambda w, x, mask: ops.gru(x, w["kernel"], w["recurrent_kernel"], w["bias"], mask=mask)[0],
    "gru_before": lambda w, x, mask: ops.gru(
        x, w["kernel"], w["recurrent_kernel"], w["bias"], mask=mask, reset_after=False
    )[0],
}
LAYERS = {
    "lstm": lambda **options: layers.LSTM(4, return_sequences=True, **options),
    "gru": lambda **options: layers.GRU(4, return_sequences=True, **options),
    "gru_before": lambda **options: layers.GRU(4, return_sequences=True, reset_after=False, **options),
}


def of_both_masks(products, mask):
    """The results of `products(mask)`, which are the loss, gradients and products, without a mask and with it."""
    found = {}
    for kind, chosen in (("plain", None), ("masked", mask)):
        value, gradient, product = products(chosen)
        found |= {f"{kind}_loss": value} | by_name(f"{kind}_gradient", gradient)
        found |= by_name(f"{kind}_product", product)
    return found


def recurrent_ways(kind):
    @way(kind)
    def hvp(x, y, mask, weights, direction):
        def products(mask):
            def loss(weights):
                return mean_square(OPS[kind](weights, x, mask) - y)

            value, (product,) = autodiff.hvp(loss, (weights,), (direction,))
            return value, autodiff.grad(loss)(weights), product

        return of_both_masks(products, mask)

    @way(kind)
    def jvp_of_grad(x, y, mask, weights, direction):
        def products(mask):
            def loss(weights):
                return mean_square(OPS[kind](weights, x, mask) - y)

            return loss(weights), *autodiff.jvp(autodiff.grad(loss), (weights,), (direction,))

        return of_both_masks(products, mask)

    @way(kind)
    def layer_in_nested_tapes(x, y, mask, weights, direction):
        layer = LAYERS[kind](dtype=str(x.dtype))
        layer.build(x.shape)
        layer.set_weights([weight.numpy() for weight in weights.values()])

        def products(mask):
            with nbkeras.GradientTape() as outer:
                with nbkeras.GradientTape() as inner:
                    loss = mean_square(layer(x, mask=mask) - y)
                slopes = inner.gradient(loss, layer.trainable_variables)
            products = outer.gradient(slopes, layer.trainable_variables, output_gradients=list(direction.values()))
            return loss, dict(zip(weights, slopes, strict=True)), dict(zip(weights, products, strict=True))

        return of_both_masks(products, mask)


for kind in OPS:
    recurrent_ways(kind)


def block(w, x, y):
    """The loss of a Transformer block."""
    query, key, value = (
        ops.reshape(ops.matmul(x, w[f"{name}_kernel"]), (2, 5, 2, 2)) for name in ("query", "key", "value")
    )
    mixed = ops.reshape(ops.dot_product_attention(query, key, value, is_causal=True), (2, 5, 4))
    z = ops.layer_normalization(x + ops.matmul(mixed, w["output_kernel"]), w["scale"], w["offset"], epsilon=1e-3)
    wide = ops.gelu(ops.matmul(z, w["wide"]), approximate=False)
    return mean_square(z + ops.matmul(wide, w["narrow"]) - y)


@way("attention")
def hvp(x, y, weights, direction):
    value, (product,) = autodiff.hvp(lambda w: block(w, x, y), (weights,), (direction,))
    gradient = autodiff.grad(block)(weights, x, y)
    return {"loss": value} | by_name("gradient", gradient) | by_name("product", product)


@way("attention")
def jvp_of_grad(x, y, weights, direction):
    gradient, product = autodiff.jvp(autodiff.grad(lambda w: block(w, x, y)), (weights,), (direction,))
    return {"loss": block(weights, x, y)} | by_name("gradient", gradient) | by_name("product", product)


# -------------------- gradients of each sample --------------------


def of_one(weights, x, label):
    return ops.sparse_categorical_crossentropy(label, mlp(weights, x), from_logits=True)


@way("per_sample")
def vmap_of_grad(x, labels, weights):
    return by_name("gradient", autodiff.vmap(autodiff.grad(of_one), (None, 0, 0))(weights, x, labels))


@way("per_sample")
def samples_in_a_loop(x, labels, weights):
    each = [autodiff.grad(crossentropy)(weights, x[i : i + 1], labels[i : i + 1]) for i in range(6)]
    return by_name("gradient", {name: ops.stack([gradient[name] for gradient in each]) for name in weights})


@way("per_sample")
def jacobian_of_the_losses(x, labels, weights):
    def losses(weights):
        return ops.sparse_categorical_crossentropy(labels, mlp(weights, x), from_logits=True)

    return by_name("gradient", autodiff.jacrev(losses)(weights))


# -------------------- Jacobian of a convnet --------------------


def convnet(weights, x):
    z = ops.tanh(ops.conv(x, weights["filter_0"], padding="same") + weights["bias_0"])
    z = ops.max_pool(z, 2)
    z = ops.tanh(ops.conv(z, weights["filter_1"]) + weights["bias_1"])
    return ops.matmul(ops.mean(z, axis=(1, 2)), weights["kernel_2"]) + weights["bias_2"]


@way("convnet")
def jacrev(x, weights):
    of_weights, of_x = autodiff.jacrev(convnet, (0, 1))(weights, x)
    return by_name("jacobian", of_weights) | {"jacobian_x": of_x}


@way("convnet")
def jacfwd(x, weights):
    of_weights, of_x = autodiff.jacfwd(convnet, (0, 1))(weights, x)
    return by_name("jacobian", of_weights) | {"jacobian_x": of_x}


@way("convnet")
def tape_jacobian(x, weights):
    weights = variables(weights)
    with nbkeras.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = convnet(weights, x)
    return by_name("jacobian", tape.jacobian(outputs, weights)) | {"jacobian_x": tape.jacobian(outputs, x)}


def test_a_batch_jacobian_has_the_blocks_of_a_jacobian_that_are_not_zero():
    data = floats(cases.convnet(), "float64")
    with nbkeras.GradientTape() as tape:
        tape.watch(data["x"])
        outputs = convnet(data["weights"], data["x"])
    found = tape.batch_jacobian(outputs, data["x"]).numpy()
    for sample in range(2):
        assert cases.error(STORED["convnet"]["jacobian_x"][sample, :, sample], found[sample]) < 1e-6
