"""Distiller, the model that trains a student by a teacher."""

from __future__ import annotations

from typing import Any, Self

from nbkeras import losses, metrics, ops
from nbkeras.building.layer import layers
from nbkeras.distillation.objectives import DistillationLoss, registry
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor
from nbkeras.engine.user_errors import warn
from nbkeras.models import Model
from nbkeras.saving import deserialize_keras_object, serialize_keras_object

_OUTPUT = "final_output"  # the key of a model's outputs among its features
_MEANS = ("student_loss", "distillation_loss", "total_loss")


class Distiller(Model):
    """A model that trains a student by targets, and by the outputs or features of a frozen teacher.

    loss = w * student's loss + (1 - w) * sum of the weighted distillation losses, with w = student_loss_weight.

    Args:
        teacher: A trained Model. It becomes non-trainable.
        student: A Model with inputs and outputs of the same shapes. Use it alone after the training.
        distillation_losses: A DistillationLoss, or a list of them.
        distillation_loss_weights: A number for each; None for ones. It is ignored for a single loss outside a list, as in Keras.
        student_loss_weight: A number from 0 to 1.

    Raises:
        ValueError: if the models or the arguments do not fit together.

    Example:
        >>> teacher, student = (keras.Sequential([layers.Dense(n), layers.Dense(2)]) for n in (32, 4))
        >>> distiller = keras.distillation.Distiller(teacher, student, keras.distillation.LogitsDistillation(loss="mse"))
        >>> distiller.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = distiller.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
        >>> sorted(history.history)
        ['distillation_loss', 'loss', 'student_loss', 'total_loss']
    """

    def __init__(
        self,
        teacher: Model,
        student: Model,
        distillation_losses: Any,
        distillation_loss_weights: Any = None,
        student_loss_weight: float = 0.5,
        name: str | None = "distiller",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        _check_models(teacher, student)
        self.teacher, self.student = teacher, student
        is_number = isinstance(student_loss_weight, int | float)
        if not is_number or not 0 <= student_loss_weight <= 1:
            raise ValueError(
                f"student_loss_weight must be a number from 0 to 1, received {briefly(student_loss_weight)}"
            )
        self.student_loss_weight = student_loss_weight
        several = isinstance(distillation_losses, list | tuple)
        self.distillation_losses = list(distillation_losses) if several else [distillation_losses]
        for each in self.distillation_losses:
            if not isinstance(each, DistillationLoss):
                raise ValueError(
                    "distillation_losses must be a DistillationLoss, such as LogitsDistillation(), or a list of them, received "
                    f"{briefly(each)}"
                )
        weights = distillation_loss_weights if several else None
        self.distillation_loss_weights = [1.0] * len(self.distillation_losses) if weights is None else list(weights)
        if len(self.distillation_loss_weights) != len(self.distillation_losses):
            raise ValueError(
                "distillation_loss_weights must have a number for each of distillation_losses: expected "
                f"{len(self.distillation_losses)}, received {len(self.distillation_loss_weights)}"
            )
        for each in self.distillation_losses:
            each.validate_model_compatibility(teacher, student)
        self._teacher_feature_extractor = _with_features(
            teacher, [each.teacher_layer_name for each in self.distillation_losses]
        )
        self._student_feature_extractor = _with_features(
            student, [each.student_layer_name for each in self.distillation_losses]
        )
        teacher.trainable = False
        self.student_loss_tracker, self.distillation_loss_tracker, self.total_loss_tracker = map(metrics.Mean, _MEANS)

    def compile(self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Choose the student's optimizer, loss and metrics.

        Args:
            optimizer: A name, an Optimizer or a configuration.
            loss: The student's loss, or a structure of losses as its outputs.
            metrics: A list of metrics.
            **kwargs: Further arguments of `Model.compile`.

        Raises:
            ValueError: without a loss, and for metrics that are not a list.
        """
        if loss is None:
            raise ValueError("Distiller.compile needs a loss: the student's loss for the targets")
        if metrics is not None and not isinstance(metrics, list | tuple):
            raise ValueError(f"Distiller.compile: metrics must be a list, received {briefly(metrics)}")
        self._student_loss = structures.map_leaves(losses.get, loss)
        super().compile(optimizer, loss=None, metrics=metrics, **kwargs)

    @property
    def compile_arguments(self) -> dict[str, Any]:
        """The arguments of `compile` by name."""
        return {**super().compile_arguments, "loss": self._student_loss} if self.compiled else {}

    def _compile_as_saved(self, arguments: dict[str, Any]) -> None:
        if arguments.get("loss") is None:  # in a file of Keras 3.15.1
            warn(f"model {self.name!r} is not compiled: the file does not have the student's loss. Call compile")
        else:
            super()._compile_as_saved(arguments)

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The student's outputs.

        Args:
            inputs: The inputs of the models.
            training: Whether the student is in training.
            **kwargs: Further arguments of the student's `call`.
        """
        return self.student(inputs, training=training, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """The loss of a batch; it updates the means of its parts.

        Args:
            x: The inputs.
            y: The targets, or None.
            y_pred: The student's outputs; None to compute them.
            sample_weight: Accepted and ignored, as in Keras.
            training: Whether it is a step of training.
        """
        y_pred = self(x, training=training) if y_pred is None else y_pred
        share = self.student_loss_weight
        own: Any = 0.0
        if share > 0 and y is not None:
            parts = zip(*map(structures.flatten, (self._student_loss, y, y_pred)), strict=True)
            # one loss for each sample is averaged, as a Loss does
            values = [loss(target, output) for loss, target, output in parts]
            own = ops.mean(values[0] if len(values) == 1 else ops.sum(ops.stack(values)))
        distilled: Any = ops.zeros(())
        if share < 1:
            for loss, weight, outputs in zip(
                self.distillation_losses, self.distillation_loss_weights, self._pairs(x, y_pred), strict=True
            ):
                loss.validate_outputs(*outputs)
                value = loss.compute_loss(*outputs)
                if value.ndim:
                    raise ValueError(
                        f"{type(loss).__name__}.compute_loss must return a scalar, received a tensor of shape {value.shape}"
                    )
                distilled = ops.add(distilled, ops.multiply(weight, value))
        total = ops.add(ops.multiply(share, own), ops.multiply(1.0 - share, distilled))
        for name, value in zip(_MEANS, (own, distilled, total), strict=True):
            getattr(self, f"{name}_tracker").update_state(value)
        return total

    def _pairs(self, x: Any, y_pred: Any) -> list[tuple[Any, Any]]:
        """(teacher's, student's) outputs or features for each distillation loss."""
        teacher = self._teacher_feature_extractor or self.teacher
        of_teacher = teacher(x, training=False)
        of_teacher = of_teacher if self._teacher_feature_extractor else {_OUTPUT: of_teacher}
        of_student = (
            self._student_feature_extractor(x, training=True) if self._student_feature_extractor else {_OUTPUT: y_pred}
        )
        return [
            (of_teacher[loss.teacher_layer_name], of_student[loss.student_layer_name or _OUTPUT])
            if loss.teacher_layer_name is not None
            else (of_teacher[_OUTPUT], y_pred)
            for loss in self.distillation_losses
        ]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {name: getattr(self, name) for name in ("name", "trainable", "dtype")}
        models = {name: serialize_keras_object(getattr(self, name)) for name in ("teacher", "student")}
        return {
            **config,
            **models,
            "distillation_losses": [registry.serialize(each) for each in self.distillation_losses],
            "distillation_loss_weights": self.distillation_loss_weights,
            "student_loss_weight": self.student_loss_weight,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """Make a Distiller from a result of `get_config`.

        Args:
            config: The configuration.
            custom_objects: Your own classes and functions that the configuration names.
        """
        models = {name: deserialize_keras_object(config[name], custom_objects) for name in ("teacher", "student")}
        return cls(
            **{**config, **models, "distillation_losses": list(map(registry.get, config["distillation_losses"]))}
        )


layers.publish(Distiller, "keras.distillation", "Distiller")


def _check_models(teacher: Any, student: Any) -> None:
    """Raises ValueError unless two models take and return tensors of the same shapes and dtypes, as far as they are known."""
    for what, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, Model):
            raise ValueError(f"the {what} must be a Model, received {briefly(model)}")
    for what in ("inputs", "outputs"):
        pairs = [getattr(model, what, None) for model in (teacher, student)]
        if None in pairs:
            continue
        forms = [[(each.shape, each.dtype.name) for each in structures.flatten(tensors)] for tensors in pairs]
        if len(forms[0]) != len(forms[1]) or not all(map(_agree, *forms)):
            raise ValueError(
                f"teacher and student must have {what} of the same shapes and dtypes; the teacher has {forms[0]}, the student "
                f"{forms[1]}"
            )


def _agree(one: tuple, other: tuple) -> bool:
    """Whether two (shape, dtype) can be those of the same tensor."""
    same = len(one[0]) == len(other[0]) and one[1] == other[1]
    return same and all(None in sizes or sizes[0] == sizes[1] for sizes in zip(one[0], other[0], strict=True))


def _with_features(model: Model, names: list[str | None]) -> Model | None:
    """A model that also returns the outputs of layers, by name; None if no layer is named."""
    wanted = list(dict.fromkeys(name for name in names if name))
    if not wanted:
        return None
    outputs = {_OUTPUT: model.output, **{name: model.get_layer(name).output for name in wanted}}
    return Model(model.inputs, outputs, name=f"{model.name}_multi_feature_extractor")
