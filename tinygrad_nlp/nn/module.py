"""Module: a layer or a model, which holds parameters and other modules. Containers of modules."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Variable
from ..autograd.modes import Scope, modes
from ..backend import Array, asnumpy, get_array_module, to_device


class Parameter(Variable):
    """A Variable that a Module learns: a leaf that requires a gradient.

    Args:
        data: an array of any shape and a floating dtype, held and not copied; or a number or a nested list of floats,
            which become float32.

    Raises:
        TypeError: of another dtype, or no numbers.
    """

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(data, requires_grad=True)


class IncompatibleKeys(NamedTuple):
    """Which names did not meet where weights were loaded.

    Attributes:
        missing_keys: of the module, for which there was nothing.
        unexpected_keys: of the weights, for which there was no place.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and models.

    Parameters and modules that are assigned to attributes are found by walking through the attributes, in the order in
    which they were assigned; those in a list are not: `ModuleList` is for that. A subclass writes `forward`; calling
    the module runs it, and gives the operations inside the module's name for drawings and error messages.

    Attributes:
        training: whether dropout is on; True at first, see `train` and `eval`.

    Example:
        >>> import tinygrad_nlp as tn
        >>> from tinygrad_nlp import nn
        >>> class Classifier(nn.Module):
        ...     def __init__(self):
        ...         self.hidden = nn.Linear(2, 10)
        ...         self.out = nn.Linear(10, 3)
        ...     def forward(self, x):
        ...         return self.out(tn.sigmoid(self.hidden(x)))
        >>> [name for name, _ in Classifier().named_parameters()]
        ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']
    """

    training = True
    _name: str | None = None  # the attribute under which the module around this one holds it

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes: a subclass writes it.

        Args:
            *args, **kwargs: those of the call.

        Returns:
            What the subclass gives.

        Raises:
            NotImplementedError: the subclass did not.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`, in this module's scope."""
        frame = sys._getframe(1)
        outer = modes.scope
        modes.scope = Scope(outer, self._name or type(self).__name__, frame.f_code, frame.f_lasti)
        try:
            return self.forward(*args, **kwargs)
        finally:
            modes.scope = outer

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            value._name = name
        elif isinstance(value, Parameter) and value.name is None:
            value.name = name
        super().__setattr__(name, value)

    # --- what it holds ------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly in this one, as (name, module), in the order in which they were assigned."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, with dotted names; one held twice comes twice.

        Args:
            prefix: the name of this module, empty by default, and the beginning of the others.

        Yields:
            (name, module), a module before those in it.
        """
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters, as (dotted name, parameter). One held twice, tied, comes once, under its first name."""
        seen: set[int] = set()
        for name, parameter in self._held():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once, in the order of `named_parameters`."""
        for _, parameter in self.named_parameters():
            yield parameter

    def _held(self) -> Iterator[tuple[str, Parameter]]:
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield f"{prefix}.{name}" if prefix else name, value

    # --- what is done to all of it ------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Switch this module and all inside it to training (dropout on) or to evaluation.

        Args:
            mode: True for training, False for evaluation.

        Returns:
            The module itself.
        """
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation: the same as `train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget all gradients: the `grad` of every parameter becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    cleargrads = zero_grad  # its name in Chainer and DeZero

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze all parameters of this module and of those inside it (False), or unfreeze them (True).

        For a frozen parameter no gradient is computed, and optimizers leave it as it is, moments and weight decay
        included. A tied parameter is one: it is frozen for all modules that hold it.

        Args:
            requires_grad: False to freeze; what was computed of the gradients is forgotten then.

        Returns:
            The module itself.

        Example:
            >>> from tinygrad_nlp import nn
            >>> model = nn.Sequential(nn.Linear(2, 10), nn.Linear(10, 3))
            >>> _ = model[0].requires_grad_(False)
            >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
            ['1.weight', '1.bias']
        """
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
            if not requires_grad:
                parameter.grad = None
        return self

    def to(self, device: str) -> Module:
        """Move all parameters, in place. Gradients are forgotten.

        An optimizer may have been made before: it holds the same parameters, and what it keeps of them follows them at
        its next step.

        Args:
            device: "cpu", "cuda" (the current GPU, see `tinygrad_nlp.cuda.device`) or "cuda:1".

        Returns:
            The module itself.

        Raises:
            ValueError: no device has this name.
            RuntimeError: there is no such GPU, or no CuPy.
        """
        for parameter in self.parameters():
            parameter.data = to_device(parameter.data, device)
            parameter.grad = None
        return self

    # --- its weights, by name -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """The arrays of all parameters by dotted name: no copies. A tied parameter comes once, under its first name."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> IncompatibleKeys:
        """Copy weights in, by name. Strict: all names must be there and no others, with the right shapes.

        Values take the dtype of the parameter. A tied parameter may be given under any of its names, or under several
        if the values are the same.

        Args:
            state: arrays or PyTorch's tensors by name, as `state_dict` gives them, of any dtype, arrays on any device.
            strict: False takes what fits by name, and leaves the others: a trained model under a new head. Shapes must
                be right all the same.

        Returns:
            The names that are missing in the state, and those in it that are unexpected; both are empty if strict.

        Raises:
            ValueError: lists missing, unexpected, mis-shaped and contradictory names, values that are no real numbers,
                and parameters that cannot be written to; nothing was changed.
            TypeError: a value holds numbers that NumPy does not know, such as PyTorch's bfloat16.

        Example:
            >>> from tinygrad_nlp import nn
            >>> trained, model = (nn.Sequential(nn.Linear(2, 10), nn.Linear(10, n)) for n in (50, 3))
            >>> del trained[1].bias, model[1].weight
            >>> model.load_state_dict(trained.state_dict(), strict=False)
            IncompatibleKeys(missing_keys=['1.bias'], unexpected_keys=['1.weight'])
        """
        arrays = {name: _as_array(name, value) for name, value in state.items()}
        names: dict[int, list[str]] = {}
        parameters: dict[int, Parameter] = {}
        for held, parameter in self._held():
            names.setdefault(id(parameter), []).append(held)
            parameters[id(parameter)] = parameter
        chosen = {key: next((name for name in ours if name in state), None) for key, ours in names.items()}
        known = {name for ours in names.values() for name in ours}
        others = IncompatibleKeys(
            [names[key][0] for key, name in chosen.items() if name is None],
            [name for name in state if name not in known],
        )
        problems = [f"missing: {name}" for name in others.missing_keys if strict]
        problems += [f"unexpected: {name}" for name in others.unexpected_keys if strict]
        pairs = [(name, arrays[name], parameters[key]) for key, name in chosen.items() if name is not None]
        problems += [
            f"{name}: shape {array.shape}, {parameter.shape} is needed"
            for name, array, parameter in pairs
            if array.shape != parameter.shape
        ]
        problems += [
            f"{name}: {array.dtype} is no dtype of its numbers"
            for name, array, parameter in pairs
            if not np.can_cast(array.dtype, np.result_type(parameter.dtype, np.float64), "same_kind")
        ]
        problems += [
            f"{name}: the parameter is a view that cannot be written to"
            for name, _, parameter in pairs
            if isinstance(parameter.data, np.ndarray) and not parameter.data.flags.writeable
        ]
        problems += [
            f"{name} and {other}: one tied parameter, but two values"
            for name, array, parameter in pairs
            for other in names[id(parameter)]
            if other != name and other in state and not _equal(array, arrays[other])
        ]
        if problems:
            raise ValueError(f"these weights are not of this {type(self).__name__}:\n  " + "\n  ".join(problems))
        for _, array, parameter in pairs:
            data = parameter.data
            data[...] = get_array_module(data).asarray(array, data.dtype)
            parameter.data = data
        return others

    # --- for people ---------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What the printed form shows between the brackets: the settings of a layer."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}({self.extra_repr()}\n  " + "\n  ".join(children) + "\n)"


def _as_array(name: str, value: Any) -> np.ndarray:
    """A value of a state dict; PyTorch's parameters, unlike its tensors, need to be detached."""
    try:
        return np.asarray(asnumpy(value.detach() if hasattr(value, "detach") else value))
    except TypeError as error:
        raise TypeError(f"{name} is no array that NumPy can read ({error}): give it as float32 on the CPU") from None


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")


class ModuleList(Module):
    """Modules in a list, named 0, 1, 2, …: it has their number as `len`, and `list[i]` is one, to be replaced, too.

    Args:
        modules: any iterable of modules; none by default.

    Raises:
        TypeError: one is no module.
    """

    def __init__(self, modules: Any = ()) -> None:
        for module in modules:
            self.append(module)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        for position, module in self.named_children():  # a list is not called, so that its modules carry its name, too
            module._name = f"{self._name}.{position}" if self._name else position

    def append(self, module: Module) -> None:
        """Add a module at the end.

        Args:
            module: named by its position.

        Raises:
            TypeError: it is none; `Sequential` takes functions, too.
        """
        self._put(len(self), module)

    def _put(self, position: int, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"ModuleList takes modules, not {module!r}; Sequential takes functions, too")
        setattr(self, str(position), module)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __getitem__(self, index: int) -> Module:
        return [module for _, module in self.named_children()][index]

    def __setitem__(self, index: int, module: Module) -> None:
        self._put(range(len(self))[operator.index(index)], module)

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())


class Sequential(Module):
    """Modules that run one after the other; functions such as `tn.sigmoid` may stand among them.

    `model[i]` is one of them, and can be replaced: a trained model gets a new head by `model[-1] = nn.Linear(10, 2)`.

    Args:
        *steps: modules or functions of one argument.

    Attributes:
        steps: a list of them, to be read; the modules are attributes besides, named by their places.

    Raises:
        TypeError: one cannot be called.

    Example:
        >>> import tinygrad_nlp as tn
        >>> from tinygrad_nlp import nn
        >>> model = nn.Sequential(nn.Linear(2, 10), tn.sigmoid, nn.Linear(10, 3))
        >>> model(tn.Variable([[0.0, 0.0]])).shape
        (1, 3)
    """

    def __init__(self, *steps: Any) -> None:
        self.steps: list[Any] = []
        for step in steps:
            self.append(step)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name.isdigit() and int(name) < len(self.steps):
            self.steps[int(name)] = value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules among the steps in their order, as (place, module), and those of other attributes behind them."""
        steps = {str(place): step for place, step in enumerate(self.steps) if isinstance(step, Module)}
        return iter((steps | dict(super().named_children())).items())

    def append(self, step: Any) -> None:
        """Add a module or a function at the end.

        Args:
            step: takes one argument.

        Raises:
            TypeError: it cannot be called.
        """
        self._put(len(self.steps), step)

    def _put(self, position: int, step: Any) -> None:
        if not callable(step):
            raise TypeError(f"Sequential takes modules and functions, not {step!r}; a list of them is given as *list")
        self.steps[position : position + 1] = [step]
        if isinstance(step, Module):
            setattr(self, str(position), step)
        else:
            vars(self).pop(str(position), None)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.steps[index]

    def __setitem__(self, index: int, step: Any) -> None:
        self._put(range(len(self.steps))[operator.index(index)], step)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.steps)

    def forward(self, x: Any) -> Any:
        """Pass x through all of them.

        Args:
            x: what the first step takes.

        Returns:
            What the last step gives; x itself where there is none.
        """
        for step in self.steps:
            x = step(x)
        return x
