"""Encoders: what a field is made of. Fitted on training rows, they turn any table into an array."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ....compiler.spec.diagnostics import hint
from ....compiler.spec.registry import ENCODERS
from ....compiler.structs import Struct
from ..table import Array, DataError, Table

State = dict[str, Any]


class FieldError(ValueError):
    """Arguments of an encoder that do not go together."""


class Encoder(Struct, ABC):
    """A declared field, before it has seen data."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""

    @property
    def beside(self) -> tuple[str, ...]:
        """The columns that say something of the others' rows."""
        return ()

    @abstractmethod
    def fit(self, table: Table) -> Fitted:
        """Learn from training rows; raises `DataError`."""


class Fitted(Struct, ABC):
    """A field that has seen the training rows.

    Subclasses name themselves by `encode`; `restore` finds them by it.
    """

    encode: ClassVar[str] = ""
    kinds: ClassVar[dict[str, type[Fitted]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.encode:
            Fitted.kinds[cls.encode] = cls

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""

    @property
    def size(self) -> int | None:
        """How many ids there are, for fields of ids."""
        return None

    @property
    def padded(self) -> bool | None:
        """Whether rows of different lengths are padded, for fields of sequences."""
        return None

    @property
    def names(self) -> list[str] | None:
        """What each id stands for, for fields of categories."""
        return None

    @property
    def labels(self) -> list[Any] | None:
        """What each id stands for, as it is in the data: text, numbers or booleans."""
        return self.names

    @property
    def limit(self) -> int | None:
        """How many steps of a sequence are kept, where the field says it."""
        return None

    def cut(self, limit: int) -> Fitted:
        """The field with no more than so many steps, as those beside it have; fields of no steps stay as they are."""
        return self

    @property
    def varies(self) -> bool:
        """Whether training draws it anew for each batch."""
        return False

    def vary(self, name: str, arrays: Mapping[str, Array], rng: np.random.Generator) -> Array:
        """The field for a batch of training rows, drawn; `arrays` are all fields of these rows, this one by `name`."""
        return arrays[name]

    @abstractmethod
    def transform(self, table: Table) -> Array:
        """The array of any rows, its first axis the rows; raises `DataError`."""

    def inverse(self, array: Array) -> Array:
        """Numbers of this field back in the units of the data; ids stay as they are."""
        return array

    @abstractmethod
    def arguments(self) -> State:
        """What `from_arguments` makes the same field of; JSON can hold it."""

    @classmethod
    @abstractmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> Fitted:
        """The inverse of `arguments`."""

    def state(self) -> State:
        """Everything that was learnt, for JSON."""
        return {"encode": self.encode, **self.arguments()}


class Derived(Fitted):
    """A field that is made of other fields, not of columns."""

    columns = ()

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """The fields it is made of."""

    @abstractmethod
    def knowing(self, train: Mapping[str, Array]) -> Derived:
        """The field, told the training rows of the fields it needs."""

    def transform(self, table: Table) -> Array:
        raise DataError(f"a field of encoding `{self.encode}` is made of other fields, not of rows")


class DerivedEncoder(Encoder):
    """A declared field that is made of other fields, `needs`, once they are fitted."""

    columns = ()

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """The fields it is made of."""

    def fit(self, table: Table) -> Fitted:
        raise DataError("it is made of other fields, not of rows")

    @abstractmethod
    def derive(self, fields: Mapping[str, Fitted]) -> Derived:
        """The field, from those it needs; raises `DataError`."""


def restore(state: Mapping[str, Any]) -> Fitted:
    """The field that `state` describes; raises `DataError` where it describes none."""
    encode = str(state.get("encode"))
    ENCODERS.find(encode)
    if encode not in Fitted.kinds:
        raise DataError(f"the saved field has an unknown encoding `{encode}`: {hint(encode, Fitted.kinds)}")
    try:
        return Fitted.kinds[encode].from_arguments({k: v for k, v in state.items() if k != "encode"})
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the saved field of encoding `{encode}` cannot be read: {error!r}") from None
