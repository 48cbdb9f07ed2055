"""Floor 2: LoRA. A layer's weight is frozen, and the product of two small, trained matrices is added to it.

The behaviour follows Keras 3.15. Hu et al., 2021: LoRA: Low-Rank Adaptation of Large Language Models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import initializers, ops
from nbkeras.building.module import Module
from nbkeras.engine import load_budget, option, step_lock, tape, tensor
from nbkeras.engine.temporary import temporarily
from nbkeras.engine.tensor import Tensor, Variable

_NARROW = 16  # smaller ranks take about as long: SIMD vectors are not filled, and memory traffic dominates


class _Thread(threading.local):
    sums: dict[Module, Variable] | None = None  # layer -> the merged weight that it currently uses


_thread = _Thread()


def merged(model: Any) -> temporarily:
    """In the block, a model's layers compute with one merged weight instead of three, except layers with a quantized weight."""
    layers = [each for each in model._all_layers() if isinstance(each, Adaptable) and each._is_apart()]
    return temporarily(_thread, sums={each: _of_sum(each) for each in layers if not each._parts()[0].is_quantized})


def _of_sum(layer: Adaptable) -> Variable:
    with tensor.on_gpu(layer._gpu):
        made = Variable(layer._sum(), name=layer.adapted, trainable=False)
    made.path = layer._parts()[0].path
    return made


class AdaptedWeight:
    """The attribute of an adapted weight: the sum, as a tensor. Without LoRA, an instance attribute holds the weight itself."""

    def __get__(self, layer: Any, cls: Any = None) -> Any:
        if layer is None:
            return self
        if not layer.lora_enabled:
            raise AttributeError(f"layer {layer.name!r} has no {layer.adapted} yet: build it first")
        return layer._sum()


class Adaptable(option.Declared, Module):
    """A layer with a weight that LoRA can adapt: `kernel`, or the weight that `adapted` names. Written `(Adaptable, Layer)`.

    Args:
        lora_rank (an integer, or None): The rank of the small matrices, if the layer is built with LoRA; None for no LoRA.
            See `enable_lora`.
        lora_alpha (a number, or None): The product of the small matrices is multiplied by lora_alpha / lora_rank; None for
            lora_rank.
    """

    adapted = "kernel"
    lora_enabled = False
    # replaces activation(product(inputs, weight) + bias): a function of (layer, product, inputs)
    _computation: Callable[..., Tensor] | None = None

    def __init__(self, lora_rank: int | None = None, lora_alpha: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        name = type(self).__name__
        self.lora_rank = (
            option.size_of(name, "lora_rank", lora_rank) if option.flag_of(name, "lora_rank", lora_rank) else None
        )
        self.lora_alpha = self._alpha(lora_alpha, self.lora_rank)

    def _alpha(self, value: Any, rank: int | None) -> float | None:
        return rank if value is None or rank is None else option.as_given(type(self).__name__, "lora_alpha", value)

    @tensor.on_own_device
    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Train two small matrices a and b in place of the kernel (or the table) w: w + lora_alpha / rank * a @ b.

        w becomes non-trainable. a has w's shape with `rank` as its last size; b has the shape (rank, w's last size). The
        attribute `kernel` is the sum from now on. Files and exports contain only the sum. Compile the model after this.

        Args:
            rank: The number of columns of a and of rows of b.
            lora_alpha: A number; None for `rank`, so that the factor is 1.
            a_initializer: Initial values of a.
            b_initializer: Initial values of b: zeros change nothing at the start.

        Raises:
            ValueError: for a layer that is not built, has a constraint on this weight, or already has LoRA.

        Example:
            >>> layer = layers.Dense(4)
            >>> layer.build((None, 3))
            >>> layer.enable_lora(rank=2)
            >>> [weight.path.split("/")[1] for weight in layer.trainable_weights]
            ['bias', 'lora_kernel_a', 'lora_kernel_b']
        """
        if not self.built:
            raise ValueError(
                f"Cannot enable LoRA on a layer that isn't yet built: call layer {self.name!r}, or give the model an input shape"
            )
        if self.lora_enabled:
            raise ValueError(f"LoRA is already enabled in layer {self.name!r}. This can only be done once per layer")
        rank = option.size_of(type(self).__name__, "rank", rank)
        with step_lock.alone(), tensor.outside_program():
            self._adapt(rank, self._alpha(lora_alpha, rank), a_initializer, b_initializer)
        tensor.outdate(self)

    def _adapt_as_made(self) -> None:
        """Enable LoRA if the constructor's arguments ask for it. Each `build` calls this last."""
        if self.lora_rank is not None:
            self._adapt(self.lora_rank, self.lora_alpha, "he_uniform", "zeros")

    def _adapt(self, rank: int, alpha: float | None, a_initializer: Any, b_initializer: Any) -> None:
        name, weight = self.adapted, vars(self).get(self.adapted)
        if not isinstance(weight, Variable):
            raise ValueError(
                f"layer {self.name!r} has no weight {name!r} that LoRA could adapt: its `build` does not make it"
            )
        if getattr(self, f"{name}_constraint") is not None:
            raise ValueError(
                f"LoRA is incompatible with constraints: layer {self.name!r} has a {name}_constraint. Make the layer without it"
            )
        shape = full_shape(weight)
        shapes = {"a": ((*shape[:-1], rank), initializers.get(a_initializer))}
        shapes["b"] = ((rank, shape[-1]), initializers.get(b_initializer))
        regularizer = getattr(self, f"{name}_regularizer")
        with load_budget.unfilled(False):  # files do not contain these weights
            for part, (shape, initializer) in shapes.items():
                made = self.add_weight(shape, initializer, regularizer=regularizer, name=f"lora_{name}_{part}")
                setattr(self, made.name, made)
        weight.trainable = False
        vars(self)[f"_{name}"] = vars(self).pop(name)  # its attribute is an AdaptedWeight from now on
        self.lora_rank, self.lora_alpha, self.lora_enabled = rank, alpha, True

    def _attribute_of(self, name: str) -> str:
        return f"_{name}" if self.lora_enabled and name == self.adapted else name

    # -------------------- calls --------------------

    def _parts(self) -> tuple[Variable, Variable, Variable, float]:
        """The weight, the two small matrices, and the factor of their product."""
        name, own = self.adapted, vars(self)
        a, b = (own[f"lora_{name}_{part}"] for part in "ab")
        return own[f"_{name}"], a, b, self.lora_alpha / self.lora_rank  # type: ignore[operator]

    def _sum(self) -> Tensor:
        if _thread.sums is not None and self in _thread.sums:
            return _thread.sums[self]
        weight, a, b, factor = self._parts()
        return ops.add(weight, _scaled(ops.matmul(a, b), factor))

    def _is_apart(self) -> bool:
        """Whether the layer has LoRA and currently computes with three separate weights."""
        return self.lora_enabled and (_thread.sums is None or self not in _thread.sums)

    def _takes_products(self, rows: int) -> bool:
        """True if adding small products is cheaper than merging the weights, for a call with this number of input rows.

        With gradients, each product is computed three times, and the gradient of the sum costs as much as the layer's product.
        """
        if not self._is_apart():
            return False
        weight, a, b, _ = self._parts()
        rank, size = max(b.shape[0], _NARROW), weight.size
        training = tape.is_recording()
        products = rows * rank * (a.size + b.size) // b.shape[0]
        of_sum = size * rank
        return weight.is_quantized or (3 * products < 3 * of_sum + rows * size if training else products < of_sum)

    def _computed(self, product: Callable, inputs: Tensor, *rest: Any) -> Tensor:
        """product(inputs, weight, *rest), or what replaces it. With small products no gradient has the weight's size.

        Args:
            product: A linear function of a weight. The last axis of its result is the weight's last axis.
            inputs: Its first argument.
            *rest: The bias and the activation, or nothing.
        """
        if self._computation is not None:
            return self._computation(self, product, inputs)
        if self.lora_enabled and self._has_small_products(inputs):
            weight, a, b, factor = self._parts()
            outputs = self._added(product(inputs, weight), _scaled(product(inputs, a), factor), b)
            return self.activation(outputs) if rest else outputs
        return product(inputs, getattr(self, self.adapted), *rest)

    def _has_small_products(self, inputs: Tensor) -> bool:
        """Whether a call with these inputs adds two small products, instead of merging the weights."""
        return self._is_apart()

    def _added(self, outputs: Tensor, x: Tensor, b: Tensor) -> Tensor:
        """outputs + x @ b, plus the bias if the layer has one."""
        return ops.add(outputs, ops.matmul(x, b))

    # -------------------- files --------------------

    def get_config(self) -> dict[str, Any]:
        """The configuration; it has `lora_rank` and `lora_alpha` if LoRA is enabled."""
        config = super().get_config()  # type: ignore[misc] # of Layer
        if self.lora_rank is not None:
            config |= {"lora_rank": self.lora_rank, "lora_alpha": self.lora_alpha}
        return config

    def _stored_weights(self) -> list[Variable]:
        """The weights in files: without the small matrices, since files contain the sum."""
        small = {id(each) for each in self._parts()[1:3]} if self.lora_enabled else set()
        return [each for each in super()._stored_weights() if id(each) not in small]

    def _stored_arrays(self) -> list[np.ndarray]:
        if not self.lora_enabled:
            return super()._stored_arrays()
        weight, name = self._parts()[0], self.adapted
        with tensor.on_gpu(self._gpu), tensor.outside_program():
            found = {id(weight): self._sum().numpy()}
        if weight.is_quantized:
            found |= self.quantization_config._arrays_of(self, name, weight, found[id(weight)])
        return [found[id(each)] if id(each) in found else each.numpy() for each in self._stored_weights()]

    def _reset_by_files(self) -> list[tuple[Variable, np.ndarray]]:
        """The second matrix becomes zero. Keras also sets the first one to zero; then both gradients are zero forever."""
        if not self.lora_enabled:
            return []
        b = self._parts()[2]
        return [(b, np.zeros(b.shape, b.dtype))]


def full_shape(weight: Variable) -> tuple[int, ...]:
    """The shape of a weight; of one that is packed, the shape that its bytes encode."""
    return getattr(weight, "full_shape", weight.shape)


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else ops.multiply(x, factor)
