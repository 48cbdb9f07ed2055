"""DistillationLoss and its kinds: how far a student's outputs are from a teacher's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from nbkeras import losses, ops, tree
from nbkeras.engine import option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import Registered, Registry
from nbkeras.engine.tensor import Tensor

registry = Registry("distillation loss", "keras.distillation")


class DistillationLoss(Registered, registry=registry):
    """The base of distillation losses: a subclass defines `compute_loss`, and `get_config` to be saved.

    Example:
        >>> class Gap(keras.distillation.DistillationLoss):
        ...     def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        ...         return ops.max(ops.abs(teacher_outputs - student_outputs))
        >>> float(Gap().compute_loss(ops.ones(2), ops.zeros(2)))
        1.0
    """

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Tensor:
        """The loss, a scalar.

        Args:
            teacher_outputs: Tensors, in the structure of the teacher's outputs.
            student_outputs: Tensors in the same structure.
            **kwargs: Nothing; a subclass may take more.

        Raises:
            NotImplementedError: if the subclass does not define it.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define compute_loss(self, teacher_outputs, student_outputs)"
        )

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that outputs fit together.

        Args:
            teacher_outputs: The teacher's outputs.
            student_outputs: The student's outputs.

        Raises:
            ValueError: if they have different structures.
        """
        tree.assert_same_structure(teacher_outputs, student_outputs)

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Check that models have what this loss needs; here they always have.

        Args:
            teacher: The teacher.
            student: The student.
        """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments.

        Raises:
            NotImplementedError: for a subclass that does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a loss from a result of `get_config`.

        Args:
            config: The configuration.
        """
        return cls(**config)


class _Structured(DistillationLoss, registered=False):
    """The base of losses with an ordinary loss for each output: its name, a Loss, a function, or None, in a structure."""

    def __init__(self, loss: Any):
        is_config = isinstance(loss, dict) and "class_name" in loss
        self.loss = losses.get(loss) if is_config else structures.map_leaves(losses.get, loss)
        if all(each is None for each in structures.flatten(self.loss)):
            raise ValueError(
                f"{type(self).__name__}: loss must name at least one loss, such as 'mse', received {briefly(loss)}"
            )

    def _sum(self, one: Callable, teacher_outputs: Any, student_outputs: Any) -> Tensor:
        """The sum of one(loss, teacher's tensor, student's tensor) over the outputs that have a loss."""
        self._check_structure(teacher_outputs)
        flat = map(structures.flatten, (self.loss, teacher_outputs, student_outputs))
        values = [ops.mean(one(*each)) for each in zip(*flat, strict=True) if each[0] is not None]
        return ops.sum(ops.stack(values))

    def _check_structure(self, outputs: Any) -> None:
        own, given = (structures.map_leaves(lambda _: 0, each) for each in (self.loss, outputs))
        if own != given:
            raise ValueError(
                f"{type(self).__name__}: loss must have the structure of the outputs, received {briefly(self.loss)} for "
                f"{briefly(outputs)}"
            )

    def _written_loss(self) -> Any:
        return structures.map_leaves(losses.serialize, self.loss)


class FeatureDistillation(_Structured):
    """The loss between layers of the teacher and of the student, or between their outputs.

    Args:
        loss: A loss, or a structure of them as the layers' outputs; None for an output that does not count.
        teacher_layer_name (str, or None): The teacher's layer; None for its outputs.
        student_layer_name (str, or None): The student's layer; None for its outputs.

    Raises:
        ValueError: without a loss.

    Example:
        >>> loss = keras.distillation.FeatureDistillation("mse", "teacher_dense", "student_dense")
        >>> float(loss.compute_loss(ops.ones((2, 3)), ops.zeros((2, 3))))
        1.0
    """

    def __init__(self, loss: Any = "mse", teacher_layer_name: str | None = None, student_layer_name: str | None = None):
        self.teacher_layer_name, self.student_layer_name = teacher_layer_name, student_layer_name
        super().__init__(loss)

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Check that the models have the layers.

        Args:
            teacher: The teacher.
            student: The student.

        Raises:
            ValueError: if a model has no such layer, or is a subclass without a graph.
        """
        names = {"teacher": (teacher, self.teacher_layer_name), "student": (student, self.student_layer_name)}
        if any(name is not None for _, name in names.values()):
            apart = [what for what, (model, _) in names.items() if getattr(model, "inputs", None) is None]
            if apart:
                raise ValueError(
                    f"FeatureDistillation with names of layers needs functional or Sequential models, and the "
                    f"{' and the '.join(apart)} is a subclass without a graph: leave the names out, to compare the outputs"
                )
        for what, (model, name) in names.items():
            if name is not None and name not in [layer.name for layer in model.layers]:
                known = [layer.name for layer in model.layers]
                raise ValueError(f"FeatureDistillation: the {what} has no layer {briefly(name)}; it has {known}")

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that outputs fit together, and to the losses.

        Args:
            teacher_outputs: The teacher's outputs.
            student_outputs: The student's outputs.

        Raises:
            ValueError: if they have different structures.
        """
        super().validate_outputs(teacher_outputs, student_outputs)
        self._check_structure(teacher_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Tensor:
        """The sum of the losses of the outputs, each a mean.

        Args:
            teacher_outputs: Tensors, in the structure of the losses.
            student_outputs: Tensors in the same structure.
            **kwargs: Accepted and ignored.
        """
        return self._sum(lambda loss, teacher, student: loss(teacher, student), teacher_outputs, student_outputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = {name: getattr(self, name) for name in ("teacher_layer_name", "student_layer_name")}
        return {"loss": self._written_loss(), **names}


class LogitsDistillation(_Structured):
    """The loss between the logits of the teacher and of the student, both divided by a temperature.

    With a `losses.KLDivergence()`, the logits become probabilities by softmax first, and the loss is multiplied by the
    temperature's square. As in Keras 3.15.1, all other losses, also the name 'kl_divergence', get the logits themselves.

    Args:
        temperature: A positive number.
        loss: A loss, or a structure of them as the models' outputs; None for an output that does not count.

    Raises:
        ValueError: without a loss, and for another temperature.

    Example:
        >>> loss = keras.distillation.LogitsDistillation(temperature=2.0, loss=losses.KLDivergence())
        >>> round(float(loss.compute_loss(ops.array([[1.0, 3.0]]), ops.array([[3.0, 1.0]]))), 4)
        1.8485
    """

    def __init__(self, temperature: float = 3.0, loss: Any = "kl_divergence"):
        super().__init__(loss)
        self.temperature = option.as_given("LogitsDistillation", "temperature", temperature)
        if not self.temperature > 0:
            raise ValueError(f"LogitsDistillation: temperature must be positive, received {briefly(temperature)}")

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Tensor:
        """The sum of the losses of the outputs, each a mean.

        Args:
            teacher_outputs: Logits, in the structure of the losses.
            student_outputs: Logits in the same structure.
            **kwargs: Accepted and ignored.
        """
        return self._sum(self._of_logits, teacher_outputs, student_outputs)

    def _of_logits(self, loss: Any, teacher: Any, student: Any) -> Any:
        teacher, student = (ops.divide(each, self.temperature) for each in (teacher, student))
        if isinstance(loss, losses.KLDivergence):
            return ops.multiply(loss(ops.softmax(teacher), ops.softmax(student)), self.temperature**2)
        return loss(teacher, student)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"temperature": self.temperature, "loss": self._written_loss()}
