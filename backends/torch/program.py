"""A lowered graph of fixed sizes as the source of one function over `torch` and `aten`."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F

from ...compiler.analysis import dying, last_uses
from ...compiler.ir import Array, Const, DType, Graph, Input, Item, Value, input_of, order
from ...compiler.ops import conv, elementwise, linalg, recurrent, reduce, shape
from ...compiler.ops.optim import Adam, Sgd
from ..executable import Run
from ..profiling import Clock
from ..source import Writer, hint_of, shape_text
from ..standing import STANDING, Standing
from .emit import argument, dtype_text, write
from .kernels import FUNCTIONS
from .over import write_over
from .packed import Pack, Packed, Packing, channels_last, trained_by
from .verified import Verified

# Ops whose result may be a view of their first input.
_VIEWS = (
    shape.Reshape, shape.Transpose, shape.BroadcastTo, shape.Slice, shape.Split, shape.Pad, shape.After,
    elementwise.Cast, reduce.Sum, reduce.Mean, conv.Windows, Item,
)  # fmt: skip
# Calls that may be told where to write: what is small, and looked at by views, stays where it is from call to call.
_TAKE_OUT = ("torch.addmm(", "torch.mm(")
SMALL = 1 << 16
# Views whose numbers may share a place: nothing may be written into them.
_OVERLAPPING = (shape.BroadcastTo, conv.Windows)


def tensor_of(array: Array) -> torch.Tensor:
    """The array as a tensor, without a copy where torch can read it as it is."""
    plain = np.asarray(array, order="C")
    if plain.dtype.kind == "V":  # bfloat16, which PyTorch reads from no array
        return tensor_of(plain.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(plain if plain.flags.writeable else plain.copy())


class Program:
    """A lowered graph of fixed sizes as the source of one function."""

    def __init__(self, graph: Graph, packing: bool = True) -> None:
        """`packing`: whether constant weights are laid out for kernels of the CPU."""
        self.graph = graph
        self.writer = (Packing if packing else Writer)(reserved=("torch", "F", "math", "device", *FUNCTIONS))
        if isinstance(self.writer, Packing):
            grads = [v for v in order(graph.roots) if isinstance(v.op, recurrent.LstmGrad)]
            self.writer.trained = {trained_by(v): "" for v in grads}
            self.writer.gradients = Counter(map(trained_by, grads))
        self.fed = [v for v in graph.inputs if input_of(v).role not in ("param", "buffer")]
        self.state = [v for v in graph.inputs if input_of(v).role in ("param", "buffer")]
        self.fused = [v for v in order(graph.roots) if isinstance(v.op, Adam | Sgd)]
        self.readers = Counter(x for v in order(graph.roots) for x in v.inputs) + Counter(graph.roots)
        self.in_place: set[Value] = set()
        self.standing = Standing()
        self.function = self._write()
        self.source = "\n".join([*self.writer.before, self.function])

    def _write(self) -> str:
        w = self.writer
        for v in (*self.fed, *self.state):
            w.variables[v] = w.names.make(input_of(v).name)
        fused = set(self.fused)
        values = [
            v
            for v in order(self.graph.roots)
            if not isinstance(v.op, Input | Const)
            and v not in fused
            and not (isinstance(v.op, Item) and v.inputs[0] in fused)
        ]
        known = set(values)
        kept = [*self.graph.roots, *(x for v in self.fused for x in v.inputs)]
        dead = dying(values, kept)
        free = _Free(values, kept)
        looked_at = {v.inputs[0] for v in values if isinstance(v.op, STANDING)} - {_base(v) for v in self.graph.roots}
        for v in values:
            if self.standing.view(v):
                text = write(w, v)
                w.variables[v] = w.names.make(hint_of(v))
                w.before.append(f"{w.variables[v]} = {text}")
                known.discard(v)
                continue
            w.heading(v.origin)
            state = self._written(v)
            text = write_over(w, v, partial(free, v) if state is None else partial(operator.is_, state)) or write(w, v)
            w.variables[v] = w.names.make(hint_of(v))
            if v in looked_at and text.startswith(_TAKE_OUT) and not v.type.names and v.type.nbytes() <= SMALL:
                place = f"torch.empty({shape_text(v.shape)}, dtype={dtype_text(v.dtype)}, device=device)"
                w.before.append(f"{w.variables[v]} = {place}")
                w.line(f"{text[:-1]}, out={w.variables[v]})")
                self.standing.keep(v)
                free.never(v)
                known.discard(v)
            else:
                w.line(f"{w.variables[v]} = {text}")
            gone = [w.variables[x] for x in dead[v] if x in known]
            if gone:
                w.line(f"del {', '.join(gone)}")
        outputs = ", ".join(f"{name!r}: {self._old(v)}" for name, v in self.graph.outputs.items())
        self._write_updates(fused)
        body = "\n    ".join([*w.lines, f"return {{{outputs}}}"])
        return f"def run({', '.join(w.variables[v] for v in self.fed)}):\n    {body}\n"

    def _written(self, v: Value) -> Value | None:
        """The state that a value is written into at once: a cache that gets one more slice, read by nothing else."""
        state = v.inputs[0] if isinstance(v.op, linalg.WriteSlice) else None
        if state is None or not isinstance(state.op, Input) or self.graph.updates.get(state.op.name) is not v:
            return None
        if self.readers[state] > 1:
            return None
        self.in_place.add(v)
        return state

    def _write_updates(self, fused: set[Value]) -> None:
        """Copy new state over old, once nothing reads the old; then the fused optimizer kernels."""
        w = self.writer
        pairs = []
        for name, v in self.graph.updates.items():
            if v in self.in_place or (isinstance(v.op, Item) and v.inputs[0] in fused):
                continue
            pairs.append((w.variables[self.graph.input(name)], self._old(v)))
        grads = {v: self._gradient(v) for v in self.fused}
        for target, text in pairs:
            w.line(f"{target}.copy_({text})")
        groups: dict[tuple[object, ...], list[Value]] = {}
        for v in self.fused:
            groups.setdefault((v.op, v.inputs[0].dtype, *v.inputs[-2:]), []).append(v)
        for members in groups.values():
            self._write_fused(members, [grads[v] for v in members])

    def _gradient(self, v: Value) -> str:
        """The gradient that an update reads, laid out as its parameter is."""
        text, base = self._old(v.inputs[1]), _base(v.inputs[1])
        if base is v.inputs[1] and isinstance(base.op, linalg.LinearWeightGrad | linalg.ScatterAdd):
            return text  # made row by row, as matrices are kept
        return f"like({text}, {argument(self.writer, v.inputs[0])})"

    def _old(self, v: Value) -> str:
        """A value's variable; that of a copy where it may be a view of state that is about to change."""
        text, base = argument(self.writer, v), _base(v)
        if not isinstance(base.op, Input) or base.op.name not in self.graph.updates:
            return text
        copied = self.writer.names.make("old")
        self.writer.line(f"{copied} = {text}.clone()")
        return copied

    def _write_fused(self, members: list[Value], grads: list[str]) -> None:
        """One kernel call for all parameters that share an optimizer's settings."""
        w, op = self.writer, members[0].op
        count = len(members[0].inputs) - 2
        columns = [grads if i == 1 else [argument(w, v.inputs[i]) for v in members] for i in range(count)]
        lists = [f"[{', '.join(column)}]" for column in columns]
        lr, step = (argument(w, x) for x in members[0].inputs[-2:])
        rate = w.once(f"float({lr})", "rate")
        if isinstance(op, Adam):
            kernel = "_fused_adamw_" if op.decoupled else "_fused_adam_"
            # The kernels count steps from one, in a tensor for each parameter.
            steps = w.once(f"torch.full((), float({step}) + 1.0, device=device)", "steps")
            w.line(
                f"torch.ops.aten.{kernel}({', '.join(lists)}, [], [{steps}] * {len(members)}, lr={rate}, "
                f"beta1={op.beta1!r}, beta2={op.beta2!r}, weight_decay={op.decay!r}, eps={op.eps!r}, "
                "amsgrad=False, maximize=False)"
            )
            return
        assert isinstance(op, Sgd)
        momenta = lists[2] if op.momentum else "[]"
        w.line(
            f"torch.ops.aten._fused_sgd_({lists[0]}, {lists[1]}, {momenta}, weight_decay={op.decay!r}, "
            f"momentum={op.momentum!r}, lr={rate}, dampening=0.0, nesterov={op.nesterov}, "
            "maximize=False, is_first_step=False)"
        )

    def _lent(self) -> set[str]:
        """The outputs that show state, what was fed, constants, or another output: they are copied."""
        bases = {name: _base(v) for name, v in self.graph.outputs.items()}
        count = Counter(bases.values())
        return {n for n, b in bases.items() if isinstance(b.op, Input | Const) or b in self.in_place or count[b] > 1}

    def load(
        self,
        tensors: Mapping[str, torch.Tensor],
        device: torch.device,
        layouts: Layouts,
        clock: Clock | None = None,
        compiled: bool = False,
    ) -> Run:
        """The function, with its constants and state in place; arrays in, arrays out.

        compiled: by `torch.compile`, if that gives the same.
        """
        namespace: dict[str, Any] = {"torch": torch, "F": F, "math": math, "device": device, **FUNCTIONS}
        named = {name: v for v, name in self.writer.variables.items() if name in self.writer.constants}
        namespace |= {name: layouts.constant(v) for name, v in named.items()}
        if isinstance(self.writer, Packing):
            namespace |= {name: layouts.packed(*pack) for name, pack in self.writer.packs.items()}
            # the largest first: all others are part of it
            blanks = sorted(self.writer.blanks.items(), key=lambda item: -math.prod(item[0][0]))
            namespace |= {name: layouts.blank(*key) for key, name in blanks}
            for v in order(self.graph.roots):
                _lay_out(v, tensors)
        for v in self.state:
            namespace[self.writer.variables[v]] = tensors[input_of(v).name]
        if clock is not None and device.type == "cuda":
            clock.wait = torch.cuda.synchronize
        source = self.function if clock is None else clock.marked(self.function, self.writer.headings, namespace)
        # The source is our own: names are made by `Names`, everything else is a number or a table's text.
        exec("\n".join(self.writer.before), namespace)
        exec(compile(source, f"<{self.graph.name} on torch>", "exec"), namespace)
        function = namespace["run"]
        if compiled:
            names = {self.writer.variables[v]: input_of(v).name for v in self.state}
            function = Verified(function, names, partial(torch.compile, dynamic=False))
        lent = self._lent()
        mode = torch.inference_mode()  # calls of a program follow one another
        bring, fetch = _crossings(device)

        def run(*arrays: Array) -> dict[str, Array]:
            with mode:
                found = function(*map(bring, arrays))
                return {name: _array(fetch(tensor), name in lent) for name, tensor in found.items()}

        return run


def _crossings(device: torch.device) -> tuple[Callable[[Array], torch.Tensor], Callable[[torch.Tensor], Array]]:
    """How arrays get to a device, and tensors from there."""
    if device.type == "cpu":
        return tensor_of, torch.Tensor.numpy
    return lambda array: tensor_of(array).to(device), lambda tensor: tensor.cpu().numpy()


def _array(array: Array, lent: bool) -> Array:
    """A result as an array of its own, in row-major order."""
    return array.copy() if lent else np.asarray(array, order="C")


class Layouts:
    """The constants of a graph as tensors, shared by its programs for several sizes, as long as these have them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._constants: WeakKeyDictionary[Value, torch.Tensor] = WeakKeyDictionary()
        self._packed: WeakKeyDictionary[Value, dict[object, Packed]] = WeakKeyDictionary()
        self._blank = torch.empty(0, dtype=torch.uint8, device=device)

    def constant(self, value: Value) -> torch.Tensor:
        assert isinstance(value.op, Const)
        if value not in self._constants:
            self._constants[value] = tensor_of(value.op.value.array.copy()).to(self.device)
        return self._constants[value]

    def _plain(self, value: Value) -> torch.Tensor:
        """A constant that is to be read once."""
        assert isinstance(value.op, Const)
        return self._constants[value] if value in self._constants else tensor_of(value.op.value.array).to(self.device)

    def packed(self, weights: tuple[Value, ...], key: object, pack: Pack) -> Packed:
        """Weights laid out as the first program that asks has them: kernels take them for other sizes, too."""
        first, *others = weights
        found = self._packed.setdefault(first, {})
        if (key, *others) not in found:
            found[key, *others] = pack(*map(self._plain, weights))
        return found[key, *others]

    def blank(self, shape: tuple[int, ...], dtype: DType, last: bool) -> torch.Tensor:
        """A tensor that nothing reads or writes: all of them share a stretch of memory, which is never touched."""
        size = math.prod(shape) * dtype.numpy.itemsize
        if self._blank.numel() < size:
            self._blank = torch.empty(size, dtype=torch.uint8, device=self.device)
        flat = self._blank[:size].view(tensor_of(np.empty(0, dtype.numpy)).dtype)
        if not last:
            return flat.view(shape)
        n, c, *space = shape
        return flat.view(n, *space, c).movedim(-1, 1)


def _lay_out(v: Value, tensors: Mapping[str, torch.Tensor]) -> None:
    """Kernels of convolutions with channels innermost, and what optimizers keep beside them.

    Done in place, since other programs share the state: its numbers and shapes stay the same.
    """
    if isinstance(v.op, conv.Conv) and v.rank == 4 and (weight := _held(v.inputs[1], tensors)) is not None:
        _turn(weight, channels_last(weight))
    if isinstance(v.op, Adam | Sgd) and (weight := _held(v.inputs[0], tensors)) is not None:
        for slot in v.inputs[2:-2]:
            if (held := _held(slot, tensors)) is not None:
                _turn(held, torch.empty_like(weight).copy_(held))


def _held(v: Value, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """The tensor of a value that is state, be it in another precision."""
    v = v.inputs[0] if isinstance(v.op, elementwise.Cast) else v
    return tensors.get(v.op.name) if isinstance(v.op, Input) else None


def _turn(tensor: torch.Tensor, turned: torch.Tensor) -> None:
    """Let a tensor have the memory of another that has its numbers."""
    if turned.stride() != tensor.stride():
        tensor.set_(turned.untyped_storage(), 0, turned.size(), turned.stride())


class _Free:
    """Whether a value's memory may be written over: its own, and not read again, by whatever name."""

    def __init__(self, values: list[Value], kept: list[Value]) -> None:
        self.place = {v: i for i, v in enumerate(values)}
        last = last_uses(values, kept, lambda v: not isinstance(v.op, Input | Const) and _is_view(v))
        self.last: dict[Value, int] = {}
        for v in values:
            base = _base(v)
            self.last[base] = max(self.last.get(base, -1), last[v])

    def never(self, v: Value) -> None:
        """A value's memory is that of the next call, too."""
        self.last[v] = len(self.place)

    def __call__(self, reader: Value, x: Value) -> bool:
        base = _base(x)
        if sum(_base(other) is base for other in reader.inputs) > 1:
            return False  # another input may show the same numbers
        if isinstance(base.op, Input | Const) or self.last.get(base) != self.place[reader]:
            return False
        while x is not base:
            if isinstance(x.op, _OVERLAPPING):
                return False
            x = x.inputs[0]
        return True


def _is_view(v: Value) -> bool:
    """Whether a value may show the numbers of its first input.

    Outputs of one op have memory of their own, but for pieces of one array, and states of recurrent layers.
    """
    if isinstance(v.op, Item):
        return isinstance(v.inputs[0].op, shape.Split | recurrent.Recurrent | recurrent.Scan)
    return isinstance(v.op, _VIEWS)


def _base(v: Value) -> Value:
    """What a view shows."""
    while not isinstance(v.op, Input | Const) and _is_view(v):
        v = v.inputs[0]
    return v
