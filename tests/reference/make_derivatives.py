"""Write derivatives.npz: derivatives of first and second order as JAX computes them, for autodiff/test_references.py.

python tests/reference/make_derivatives.py    (with jax and torch)

All in float64. PyTorch computes each case too, with other functions where it has them: the script fails if one number differs by
more than 1e-10 of the greatest number of its array.
"""

import jax
import numpy as np
import torch
from arrays import store
from derivative_cases import CASES, INNER_RATE, INNER_STEPS, PENALTY, SLOPE, VISCOSITY, error
from jax import lax
from jax import numpy as jnp
from torch.nn import functional


def by_name(prefix, arrays):
    return {f"{prefix}_{name}": array for name, array in arrays.items()}


# -------------------- JAX --------------------


def mlp(weights, x, activation=jnp.tanh):
    last = len(weights) // 2 - 1
    for number in range(last + 1):
        x = x @ weights[f"kernel_{number}"] + weights[f"bias_{number}"]
        x = activation(x) if number < last else x
    return x


def leaky_relu(x):
    return jax.nn.leaky_relu(x, SLOPE)


def conv(x, kernel, bias, strides, padding):
    return (
        lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        + bias
    )


def conv_critic(weights, x):
    x = leaky_relu(conv(x, weights["filter_0"], weights["bias_0"], 2, "SAME"))
    x = leaky_relu(conv(x, weights["filter_1"], weights["bias_1"], 1, "VALID"))
    return x.reshape(len(x), -1) @ weights["kernel_2"] + weights["bias_2"]


def jax_wgan_gp(critic, real, fake, share, weights):
    def loss(weights):
        mixed = share * real + (1 - share) * fake
        slopes = jax.grad(lambda x: critic(weights, x).sum())(mixed)
        norms = jnp.sqrt((slopes**2).reshape(len(real), -1).sum(axis=1))
        return critic(weights, fake).mean() - critic(weights, real).mean() + PENALTY * ((norms - 1) ** 2).mean()

    value, gradient = jax.value_and_grad(loss)(weights)
    return {"loss": value} | by_name("gradient", gradient)


def jax_maml(support_x, support_y, query_x, query_y, weights):
    def squared(weights, x, y):
        return ((mlp(weights, x) - y) ** 2).mean()

    def after(weights, sx, sy, qx, qy):
        for _ in range(INNER_STEPS):
            slopes = jax.grad(squared)(weights, sx, sy)
            weights = jax.tree.map(lambda w, g: w - INNER_RATE * g, weights, slopes)
        return squared(weights, qx, qy)

    def loss(weights):
        return jax.vmap(after, (None, 0, 0, 0, 0))(weights, support_x, support_y, query_x, query_y).mean()

    value, gradient = jax.value_and_grad(loss)(weights)
    return {"loss": value} | by_name("gradient", gradient)


def jax_pinn(x, t, edge_x, edge_t, edge_u, weights):
    def u(weights, x, t):
        return mlp(weights, jnp.stack([x, t]))[0]

    def slopes(weights, x, t):
        u_x, u_t = jax.grad(u, (1, 2))(weights, x, t)
        return u_t, u_x, jax.grad(jax.grad(u, 1), 1)(weights, x, t)

    def loss(weights):
        u_t, u_x, u_xx = jax.vmap(slopes, (None, 0, 0))(weights, x[:, 0], t[:, 0])
        residual = u_t + mlp(weights, jnp.concatenate([x, t], 1))[:, 0] * u_x - VISCOSITY * u_xx
        edge = mlp(weights, jnp.concatenate([edge_x, edge_t], 1)) - edge_u
        return (residual**2).mean() + (edge**2).mean(), (u_t, u_x, u_xx)

    (value, (u_t, u_x, u_xx)), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
    return {"loss": value, "u_t": u_t, "u_x": u_x, "u_xx": u_xx} | by_name("gradient", gradient)


def crossentropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1).mean()


def jax_hessian(x, labels, weights):
    found = jax.hessian(lambda weights: crossentropy(mlp(weights, x), labels))(weights)
    return {f"{a}_{b}": block for a, row in found.items() for b, block in row.items()}


def lstm_step(weights, states, x):
    h, c = states
    i, f, g, o = jnp.split(x @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"], 4, 1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(weights, states, x):
    (h,) = states
    xz, xr, xh = jnp.split(x @ weights["kernel"] + weights["bias"][0], 3, 1)
    hz, hr, hh = jnp.split(h @ weights["recurrent_kernel"] + weights["bias"][1], 3, 1)
    z, r = jax.nn.sigmoid(xz + hz), jax.nn.sigmoid(xr + hr)
    return (z * h + (1 - z) * jnp.tanh(xh + r * hh),)


def gru_before_step(weights, states, x):
    (h,) = states
    xz, xr, xh = jnp.split(x @ weights["kernel"] + weights["bias"], 3, 1)
    uz, ur, uh = jnp.split(weights["recurrent_kernel"], 3, 1)
    z, r = jax.nn.sigmoid(xz + h @ uz), jax.nn.sigmoid(xr + h @ ur)
    return (z * h + (1 - z) * jnp.tanh(xh + (r * h) @ uh),)


def jax_recurrent(step, count, x, y, mask, weights, direction):
    def loss(weights, mask):
        states, outputs = (jnp.zeros((3, 4)),) * count, []
        for now in range(5):
            keep = mask[:, now, None]
            following = step(weights, states, x[:, now])
            states = tuple(jnp.where(keep, new, old) for new, old in zip(following, states, strict=True))
            outputs.append(states[0])  # where the mask is false: the output before
        return ((jnp.stack(outputs, 1) - y) ** 2).mean()

    found = {}
    for kind, chosen in (("plain", np.ones_like(mask)), ("masked", mask)):
        gradient, product = jax.jvp(jax.grad(lambda w, chosen=chosen: loss(w, chosen)), (weights,), (direction,))
        found |= {f"{kind}_loss": loss(weights, chosen)}
        found |= by_name(f"{kind}_gradient", gradient) | by_name(f"{kind}_product", product)
    return found


def jax_attention(x, y, weights, direction):
    def loss(w):
        heads = [(x @ w[f"{name}_kernel"]).reshape(2, 5, 2, 2) for name in ("query", "key", "value")]
        scores = jnp.einsum("bqhd,bkhd->bhqk", heads[0], heads[1]) / np.sqrt(2)
        shares = jax.nn.softmax(jnp.where(np.tri(5, dtype=bool), scores, -np.inf))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", shares, heads[2]).reshape(2, 5, 4)
        z = x + mixed @ w["output_kernel"]
        z = (z - z.mean(-1, keepdims=True)) / jnp.sqrt(z.var(-1, keepdims=True) + 1e-3) * w["scale"] + w["offset"]
        return ((z + jax.nn.gelu(z @ w["wide"], approximate=False) @ w["narrow"] - y) ** 2).mean()

    gradient, product = jax.jvp(jax.grad(loss), (weights,), (direction,))
    return {"loss": loss(weights)} | by_name("gradient", gradient) | by_name("product", product)


def jax_per_sample(x, labels, weights):
    one = jax.grad(lambda weights, x, label: crossentropy(mlp(weights, x), label))
    return by_name("gradient", jax.vmap(one, (None, 0, 0))(weights, x, labels))


def jax_convnet(x, weights):
    def network(weights, x):
        z = jnp.tanh(conv(x, weights["filter_0"], weights["bias_0"], 1, "SAME"))
        z = lax.reduce_window(z, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        z = jnp.tanh(conv(z, weights["filter_1"], weights["bias_1"], 1, "VALID")).mean((1, 2))
        return z @ weights["kernel_2"] + weights["bias_2"]

    of_weights, of_x = jax.jacrev(network, (0, 1))(weights, x)
    return by_name("jacobian", of_weights) | {"jacobian_x": of_x}


JAX = {
    "wgan_gp_dense": lambda **data: jax_wgan_gp(lambda weights, x: mlp(weights, x, leaky_relu), **data),
    "wgan_gp_conv": lambda **data: jax_wgan_gp(conv_critic, **data),
    "maml": jax_maml,
    "pinn": jax_pinn,
    "hessian": jax_hessian,
    "lstm": lambda **data: jax_recurrent(lstm_step, 2, **data),
    "gru": lambda **data: jax_recurrent(gru_step, 1, **data),
    "gru_before": lambda **data: jax_recurrent(gru_before_step, 1, **data),
    "attention": jax_attention,
    "per_sample": jax_per_sample,
    "convnet": jax_convnet,
}


# -------------------- PyTorch --------------------


def torch_mlp(weights, x, activation=torch.tanh):
    last = len(weights) // 2 - 1
    for number in range(last + 1):
        x = functional.linear(x, weights[f"kernel_{number}"].T, weights[f"bias_{number}"])
        x = activation(x) if number < last else x
    return x


def torch_leaky_relu(x):
    return functional.leaky_relu(x, SLOPE)


def torch_conv(x, kernel, bias, **options):
    return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, **options)


def torch_conv_critic(weights, x):
    x = functional.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1))
    x = torch_leaky_relu(torch_conv(x, weights["filter_0"], weights["bias_0"], stride=2))
    x = torch_leaky_relu(torch_conv(x, weights["filter_1"], weights["bias_1"]))
    return x.permute(0, 2, 3, 1).flatten(1) @ weights["kernel_2"] + weights["bias_2"]


def torch_gradient(loss, weights):
    return by_name("gradient", dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)))


def torch_wgan_gp(critic, real, fake, share, weights):
    mixed = (share * real + (1 - share) * fake).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(weights, mixed).sum(), mixed, create_graph=True)
    penalty = ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()
    loss = critic(weights, fake).mean() - critic(weights, real).mean() + PENALTY * penalty
    return {"loss": loss} | torch_gradient(loss, weights)


def torch_maml(support_x, support_y, query_x, query_y, weights):
    losses = []
    for sx, sy, qx, qy in zip(support_x, support_y, query_x, query_y, strict=True):
        adapted = dict(weights)
        for _ in range(INNER_STEPS):
            before = functional.mse_loss(torch_mlp(adapted, sx), sy)
            slopes = torch.autograd.grad(before, list(adapted.values()), create_graph=True)
            adapted = {name: w - INNER_RATE * g for (name, w), g in zip(adapted.items(), slopes, strict=True)}
        losses.append(functional.mse_loss(torch_mlp(adapted, qx), qy))
    loss = torch.stack(losses).mean()
    return {"loss": loss} | torch_gradient(loss, weights)


def torch_pinn(x, t, edge_x, edge_t, edge_u, weights):
    x, t = x.requires_grad_(), t.requires_grad_()
    u = torch_mlp(weights, torch.cat([x, t], 1))
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    edge = functional.mse_loss(torch_mlp(weights, torch.cat([edge_x, edge_t], 1)), edge_u)
    loss = ((u_t + u * u_x - VISCOSITY * u_xx) ** 2).mean() + edge
    slopes = {"u_t": u_t[:, 0], "u_x": u_x[:, 0], "u_xx": u_xx[:, 0]}
    return {"loss": loss} | slopes | torch_gradient(loss, weights)


def torch_hessian(x, labels, weights):
    found = torch.func.hessian(lambda weights: functional.cross_entropy(torch_mlp(weights, x), labels))(weights)
    return {f"{a}_{b}": block for a, row in found.items() for b, block in row.items()}


def torch_lstm(weights, x, mask):
    if not mask.all():
        return None  # nn.LSTM has no such mask
    order = [weights["kernel"].T, weights["recurrent_kernel"].T, weights["bias"], torch.zeros(16, dtype=x.dtype)]
    return torch.lstm(x, (torch.zeros(1, 3, 4, dtype=x.dtype),) * 2, order, True, 1, 0.0, True, False, True)[0]


def torch_gru(weights, x, mask):
    """nn.GRU has the gates r, z, h, Keras z, r, h."""
    if not mask.all():
        return None

    def turned(array):
        z, r, h = array.chunk(3, -1)
        return torch.cat([r, z, h], -1)

    order = [turned(weights["kernel"]).T, turned(weights["recurrent_kernel"]).T, *turned(weights["bias"])]
    return torch.gru(x, torch.zeros(1, 3, 4, dtype=x.dtype), order, True, 1, 0.0, True, False, True)[0]


def torch_lstm_step(weights, states, x):
    h, c = states
    i, f, g, o = (x @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"]).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def torch_gru_step(weights, states, x):
    (h,) = states
    xz, xr, xh = (x @ weights["kernel"] + weights["bias"][0]).chunk(3, 1)
    hz, hr, hh = (h @ weights["recurrent_kernel"] + weights["bias"][1]).chunk(3, 1)
    z, r = (xz + hz).sigmoid(), (xr + hr).sigmoid()
    return (z * h + (1 - z) * (xh + r * hh).tanh(),)


def torch_gru_before_step(weights, states, x):
    (h,) = states
    xz, xr, xh = (x @ weights["kernel"] + weights["bias"]).chunk(3, 1)
    uz, ur, uh = weights["recurrent_kernel"].chunk(3, 1)
    z, r = (xz + h @ uz).sigmoid(), (xr + h @ ur).sigmoid()
    return (z * h + (1 - z) * (xh + (r * h) @ uh).tanh(),)


def torch_recurrent(step, count, whole, x, y, mask, weights, direction):
    def outputs(weights, mask):
        sequence = whole(weights, x, mask)
        if sequence is not None:
            return sequence
        states, found = (torch.zeros(3, 4, dtype=x.dtype),) * count, []
        for now in range(5):
            following = step(weights, states, x[:, now])
            states = tuple(torch.where(mask[:, now, None], n, o) for n, o in zip(following, states, strict=True))
            found.append(states[0])
        return torch.stack(found, 1)

    found, names = {}, list(weights)
    for kind, chosen in (("plain", torch.ones_like(mask)), ("masked", mask)):

        def loss(*values, chosen=chosen):
            return functional.mse_loss(outputs(dict(zip(names, values, strict=True)), chosen), y)

        primals, tangents = tuple(weights.values()), tuple(direction.values())
        value, products = torch.autograd.functional.hvp(loss, primals, tangents)
        gradients = torch.autograd.grad(loss(*primals), primals)
        found |= {f"{kind}_loss": value} | by_name(f"{kind}_gradient", dict(zip(names, gradients, strict=True)))
        found |= by_name(f"{kind}_product", dict(zip(names, products, strict=True)))
    return found


def torch_attention(x, y, weights, direction):
    def loss(w):
        query, key, value = (
            (x @ w[f"{name}_kernel"]).unflatten(-1, (2, 2)).transpose(1, 2) for name in ("query", "key", "value")
        )
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        z = x + mixed.transpose(1, 2).flatten(2) @ w["output_kernel"]
        z = functional.layer_norm(z, (4,), w["scale"], w["offset"], 1e-3)
        return functional.mse_loss(z + functional.gelu(z @ w["wide"]) @ w["narrow"], y)

    slopes = torch.autograd.grad(loss(weights), list(weights.values()), create_graph=True)
    along = sum((slope * direction[name]).sum() for name, slope in zip(weights, slopes, strict=True))
    products = torch.autograd.grad(along, list(weights.values()))
    found = {"loss": loss(weights)} | by_name("gradient", dict(zip(weights, slopes, strict=True)))
    return found | by_name("product", dict(zip(weights, products, strict=True)))


def torch_per_sample(x, labels, weights):
    one = torch.func.grad(lambda weights, x, label: functional.cross_entropy(torch_mlp(weights, x), label))
    return by_name("gradient", torch.func.vmap(one, (None, 0, 0))(weights, x, labels))


def torch_convnet(x, weights):
    def network(weights, x):
        z = torch.tanh(torch_conv(x.permute(0, 3, 1, 2), weights["filter_0"], weights["bias_0"], padding=1))
        z = functional.max_pool2d(z, 2)
        z = torch.tanh(torch_conv(z, weights["filter_1"], weights["bias_1"])).mean((2, 3))
        return z @ weights["kernel_2"] + weights["bias_2"]

    of_weights, of_x = torch.func.jacfwd(network, (0, 1))(weights, x)
    return by_name("jacobian", of_weights) | {"jacobian_x": of_x}


TORCH = {
    "wgan_gp_dense": lambda **data: torch_wgan_gp(lambda weights, x: torch_mlp(weights, x, torch_leaky_relu), **data),
    "wgan_gp_conv": lambda **data: torch_wgan_gp(torch_conv_critic, **data),
    "maml": torch_maml,
    "pinn": torch_pinn,
    "hessian": torch_hessian,
    "lstm": lambda **data: torch_recurrent(torch_lstm_step, 2, torch_lstm, **data),
    "gru": lambda **data: torch_recurrent(torch_gru_step, 1, torch_gru, **data),
    "gru_before": lambda **data: torch_recurrent(torch_gru_before_step, 1, lambda *_: None, **data),
    "attention": torch_attention,
    "per_sample": torch_per_sample,
    "convnet": torch_convnet,
}


def tensors(data):
    """As tensors; weights need gradients."""
    return {
        name: {key: torch.tensor(array, requires_grad=name == "weights") for key, array in value.items()}
        if isinstance(value, dict)
        else torch.tensor(value)
        for name, value in data.items()
    }


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    saved = {}
    for case, draw in CASES.items():
        found = {name: np.asarray(array) for name, array in JAX[case](**draw()).items()}
        other = {name: array.detach().numpy() for name, array in TORCH[case](**tensors(draw())).items()}
        assert found.keys() == other.keys(), (case, found.keys() ^ other.keys())
        worst = 0.0
        for name, array in found.items():
            assert array.dtype == other[name].dtype == np.float64, (case, name)
            worst = max(worst, error(array, other[name]))
            assert worst < 1e-10, (case, name, worst)
        print(f"{case}: {len(found)} arrays, PyTorch's differ by at most {worst:.0e}")
        saved |= {f"{case}/{name}": array for name, array in found.items()}
    store("derivatives.npz", saved)


if __name__ == "__main__":
    main()
