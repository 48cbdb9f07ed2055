"""PyTorch's steps with derivatives of second order: see WORKLOADS. Each updates the weights for a batch and returns its loss.

Eagerly all use autograd.grad(create_graph=True), except MAML, which uses torch.func; these are the faster ways. torch.compile
does not support create_graph, so it compiles torch.func.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from workloads import INNER_RATE, LATENT, PENALTY, VISCOSITY

Loss = Callable[..., torch.Tensor]


def chosen(compiled: bool, eager: Loss, functional_loss: Loss) -> Loss:
    return torch.compile(functional_loss) if compiled else eager


class WganGp:
    def __init__(self, optimizer_of, device, compiled):
        layers = [nn.Linear(LATENT, 7 * 7 * 64), nn.ReLU(), nn.Unflatten(1, (64, 7, 7))]
        layers += [nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid()]
        self.generator = nn.Sequential(*layers).to(device)
        layers = [nn.Conv2d(1, 32, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 3, 2, 1), nn.LeakyReLU(0.2)]
        self.critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(7 * 7 * 64, 1)).to(device)
        self.model = nn.ModuleList([self.generator, self.critic])
        self.optimizers = optimizer_of(self.critic), optimizer_of(self.generator)
        self.critic_loss = chosen(compiled, self.by_graph, self.by_function)
        self.generator_loss = chosen(compiled, self.loss_of_generator, self.loss_of_generator)

    def by_graph(self, real, fake, share):
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        return self.with_penalty(real, fake, *torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True))

    def by_function(self, real, fake, share):
        slopes = torch.func.grad(lambda x: self.critic(x).sum())(share * real + (1 - share) * fake)
        return self.with_penalty(real, fake, slopes)

    def with_penalty(self, real, fake, slopes):
        penalty = (slopes.flatten(1).norm(dim=1) - 1).square().mean()
        return self.critic(fake).mean() - self.critic(real).mean() + PENALTY * penalty

    def loss_of_generator(self, noise):
        return -self.critic(self.generator(noise)).mean()

    def __call__(self, real):
        noise = torch.randn(2, len(real), LATENT, device=real.device)
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        with torch.no_grad():
            fake = self.generator(noise[0])
        loss = self.critic_loss(real, fake, share)
        for each, optimizer in zip((loss, None), self.optimizers, strict=True):
            each = self.generator_loss(noise[1]) if each is None else each
            optimizer.zero_grad()
            each.backward()
            optimizer.step()
        return loss


class Stepping:
    """A step that minimizes the `loss` of a batch by the `optimizer` of the `model`."""

    def __call__(self, *batch):
        loss = self.loss(*batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


class Burgers(Stepping):
    def __init__(self, optimizer_of, device, compiled):
        layers, before = [], 2
        for _ in range(4):
            layers += [nn.Linear(before, 50), nn.Tanh()]
            before = 50
        self.model = nn.Sequential(*layers, nn.Linear(before, 1)).to(device)
        self.optimizer = optimizer_of(self.model)
        self.loss = chosen(compiled, self.by_graph, self.by_function)

    def by_graph(self, inside, edge, edge_u):
        x, t = inside[:, :1].clone().requires_grad_(), inside[:, 1:].clone().requires_grad_()
        u = self.model(torch.cat([x, t], dim=1))
        u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
        return self.of_residual(u, u_t, u_x, u_xx, edge, edge_u)

    def by_function(self, inside, edge, edge_u):
        def value(points):
            u = self.model(points)
            return u.sum(), u

        def slope(points):
            slopes, u = torch.func.grad(value, has_aux=True)(points)
            return slopes[:, 0].sum(), (slopes, u)

        seconds, (slopes, u) = torch.func.grad(slope, has_aux=True)(inside)
        return self.of_residual(u, slopes[:, 1:], slopes[:, :1], seconds[:, :1], edge, edge_u)

    def of_residual(self, u, u_t, u_x, u_xx, edge, edge_u):
        residual = u_t + u * u_x - VISCOSITY * u_xx
        return residual.square().mean() + functional.mse_loss(self.model(edge), edge_u)


class Maml(Stepping):
    def __init__(self, optimizer_of, device, compiled):
        layers = [nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)]
        self.model = nn.Sequential(*layers).to(device)
        self.optimizer = optimizer_of(self.model)
        self.loss = chosen(compiled, self.of_tasks, self.of_tasks)

    def error(self, weights, x, y):
        return functional.mse_loss(torch.func.functional_call(self.model, weights, (x,)), y)

    def of_task(self, weights, support_x, support_y, query_x, query_y):
        slopes = torch.func.grad(self.error)(weights, support_x, support_y)
        adapted = {name: weight - INNER_RATE * slopes[name] for name, weight in weights.items()}
        return self.error(adapted, query_x, query_y)

    def of_tasks(self, weights, *batch):
        return torch.func.vmap(self.of_task, (None, 0, 0, 0, 0))(weights, *batch).mean()

    def __call__(self, *batch):
        return super().__call__(dict(self.model.named_parameters()), *batch)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(32, 64, batch_first=True), nn.Linear(64, 1)

    def forward(self, x):
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM has no second derivative
            return self.out(self.lstm(x)[0][:, -1])


class LstmSlopes(Stepping):
    def __init__(self, optimizer_of, device, compiled):
        self.model = Lstm().to(device)
        self.optimizer = optimizer_of(self.model)
        self.loss = chosen(compiled, self.by_graph, self.by_function)

    def by_graph(self, x, y):
        x = x.requires_grad_()
        loss = functional.binary_cross_entropy_with_logits(self.model(x), y)
        (slopes,) = torch.autograd.grad(loss, x, create_graph=True)
        return loss + PENALTY * slopes.square().sum()

    def by_function(self, x, y):
        def loss(x):
            return functional.binary_cross_entropy_with_logits(self.model(x), y)

        slopes, value = torch.func.grad_and_value(loss)(x)
        return value + PENALTY * slopes.square().sum()


STEPS = {"wgan_gp": WganGp, "burgers": Burgers, "maml": Maml, "lstm_slopes": LstmSlopes}
