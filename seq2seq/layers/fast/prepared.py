"""Tensors that searches compute from parameters, kept until a parameter changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

Value = TypeVar("Value")


class _Seen(NamedTuple):
    """A parameter as it was when a value was computed."""

    tensor: ReferenceType[Tensor]  # weak, so that a replaced parameter is freed
    version: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> _Seen:
        return cls(ref(tensor), _version(tensor), tensor.dtype, tensor.device)

    def is_now(self, tensor: Tensor) -> bool:
        """Whether this is the given parameter, unchanged."""
        return self.tensor() is tensor and self[1:] == (_version(tensor), tensor.dtype, tensor.device)


class Prepared(nn.Module):
    """Values that depend on parameters.

    They are dropped in training mode, since ``Parameter.data`` can be changed without a trace. A copy of this module holds
    none, since its owner has other parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, tuple[list[_Seen], Any]] = {}  # of each name, its parameters and the value

    def get(self, name: str, parameters: Iterable[Tensor], make: Callable[[], Value]) -> Value:
        """Return the value that ``make`` computes without gradients; it is called again after a parameter was changed in place."""
        given = list(parameters)
        kept = self._kept.get(name)
        if kept is None or len(kept[0]) != len(given) or not all(map(_Seen.is_now, kept[0], given)):
            with torch.no_grad():
                kept = self._kept[name] = ([_Seen.of(each) for each in given], make())
        value: Value = kept[1]
        return value

    def train(self, mode: bool = True) -> Prepared:
        """Set the mode; drop all values in training mode."""
        if mode:
            self._kept.clear()
        super().train(mode)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Prepared:
        return Prepared().train(self.training)

    def __reduce__(self) -> tuple[type[Prepared], tuple[()]]:
        return Prepared, ()


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; tensors of ``torch.inference_mode`` cannot be changed."""
    return 0 if tensor.is_inference() else tensor._version
