"""Weights and whole training states in safetensors files, written so that a file is either the old one or the new."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from .. import threads
from ..backend import Array, asnumpy, generator
from ..data import DataLoader
from ..files import replace_file
from ..nn import Module
from ..nn.module import IncompatibleKeys
from ..optim import Optimizer

if TYPE_CHECKING:
    from .callbacks import Callback

_KEY = "tinygrad_nlp"  # of the part of a checkpoint that is no array, JSON in the file's metadata


def save_weights(model: Module, path: str | os.PathLike[str], dtype: Any = None) -> None:
    """Write the weights of a model, by name, as PyTorch and others read them.

    Args:
        model: any.
        path: of the file; an old one is replaced when the new one is whole.
        dtype: to store as, np.float16 for half of float32's size (*Deep Learning from Scratch 2*, ch. 1); by default as
            they are.

    Raises:
        ValueError: a finite weight is too large for `dtype`; the message names it.
        OSError: the file cannot be written, for example into a folder that does not exist; the message names it.
        TypeError: NumPy knows no such dtype.
    """
    state = model.state_dict()
    if dtype is not None:
        with np.errstate(over="ignore"):
            stored = {name: array.astype(dtype) for name, array in state.items()}
        for name, array in stored.items():
            if not np.array_equal(np.isfinite(asnumpy(array)), np.isfinite(asnumpy(state[name]))):
                raise ValueError(f"the weights {name} have numbers too large for {np.dtype(dtype).name}")
        state = stored
    _write(path, state, {})


def load_weights(model: Module, path: str | os.PathLike[str], strict: bool = True) -> IncompatibleKeys:
    """Read weights into a model, see `Module.load_state_dict`. A PyTorch state dict as safetensors will do.

    Args:
        model: whose parameters are changed; they keep their dtypes.
        path: of the file.
        strict: False takes what fits by name, and leaves the others.

    Returns:
        The names that are missing in the file, and those in it that are unexpected; both are empty if strict.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is cut short, holds numbers that NumPy does not know (bfloat16), is a checkpoint, or not of
            this model.
    """
    arrays, metadata = _read(path)
    if _KEY in metadata:
        raise ValueError(f"{path} is a checkpoint: take model.load_state_dict(Checkpoint.load(path).weights)")
    return model.load_state_dict(arrays, strict)


@dataclass
class Checkpoint:
    """All that a run needs to go on as if it had never stopped, bit for bit.

    Attributes:
        weights: of the model, by name.
        optimizer: what `Optimizer.state_dict` gives, and the name of the rule.
        loader: what `DataLoader.state_dict` gives: the position in the epoch, and its random stream.
        random: the state of the library's random stream.
        epoch, history: see `Trainer`.
        extra: anything that JSON can hold: settings, a vocabulary.
        callbacks: what `Callback.state_dict` gives, of those that have a state, and the name of the class.
        lone_products: see `products`: which threads multiply, on which the last bits depend.
    """

    weights: dict[str, Array]
    optimizer: dict[str, Any]
    loader: dict[str, Any]
    random: dict[str, Any]
    epoch: int = 0
    history: dict[str, list[list[float]]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    lone_products: int = 0

    @classmethod
    def of(
        cls,
        model: Module,
        optimizer: Optimizer,
        loader: DataLoader,
        epoch: int = 0,
        history: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Checkpoint:
        """The state at this moment; the arrays are not copied.

        Args:
            model: any.
            optimizer: of its parameters.
            loader: of the batches.
            epoch: see `Trainer`.
            history: see `Trainer`; empty by default.
            extra: anything that JSON can hold; nothing by default.
            callbacks: of the trainer; none by default.

        Returns:
            A checkpoint that holds the arrays themselves: save it before the next step.
        """
        random = generator().bit_generator.state
        return cls(
            weights=model.state_dict(),
            optimizer={"rule": type(optimizer).__name__, **optimizer.state_dict()},
            loader=loader.state_dict(),
            random=dict(random),
            epoch=epoch,
            history=dict(history or {}),
            extra=dict(extra or {}),
            callbacks=[{"callback": type(c).__name__, **state} for c in callbacks if (state := c.state_dict())],
            lone_products=threads.lone_products,
        )

    def restore(
        self, model: Module, optimizer: Optimizer, loader: DataLoader, callbacks: Sequence[Callback] = ()
    ) -> None:
        """Put everything back.

        Args:
            model: of the same parameters.
            optimizer: of the same rule.
            loader: of the same data set.
            callbacks: among which are the same with a state, in the same order.

        Raises:
            ValueError: this is the state of another model, rule or data set, or of other callbacks; nothing was
                changed.
        """
        saved, given = self.optimizer["rule"], type(optimizer).__name__
        if saved != given:
            raise ValueError(f"this is the state of a run with {saved}, the optimizer is {given}")
        with_state = [callback for callback in callbacks if callback.state_dict()]
        names = [[state["callback"] for state in self.callbacks], [type(callback).__name__ for callback in with_state]]
        if names[0] != names[1]:
            saved, given = (", ".join(some) or "no such callbacks" for some in names)
            raise ValueError(f"this is the state of a run with {saved}; in this run there are {given}")
        parts: list[Any] = [model, optimizer, loader, *with_state]
        before = [copy.deepcopy(part.state_dict()) for part in parts]
        try:
            model.load_state_dict(self.weights)
            optimizer.load_state_dict(self.optimizer)
            loader.load_state_dict(self.loader)
            for callback, state in zip(with_state, self.callbacks, strict=True):
                callback.load_state_dict(state)
        except ValueError:
            for part, state in zip(parts, before, strict=True):
                part.load_state_dict(state)
            raise
        generator().bit_generator.state = self.random
        threads.lone_products = self.lone_products

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; an old one is replaced when the new one is whole and on the disk.

        Args:
            path: of the file.

        Raises:
            OSError: it cannot be written; the message names it.
            TypeError: `extra` holds something that JSON cannot.
        """
        arrays = {f"model.{name}": array for name, array in self.weights.items()}
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer["arrays"].items()}
        for i, state in enumerate(self.callbacks):
            arrays |= {f"callback.{i}.{name}": array for name, array in state.get("arrays", {}).items()}
        # No JSON: of a run of millions of steps it would be longer than the metadata of a safetensors file may be.
        arrays |= {f"history.{name}": np.array(points, np.float64) for name, points in self.history.items()}
        rest = {
            "optimizer": {name: value for name, value in self.optimizer.items() if name != "arrays"},
            "loader": self.loader,
            "random": self.random,
            "epoch": self.epoch,
            "extra": self.extra,
            "callbacks": [{name: v for name, v in state.items() if name != "arrays"} for state in self.callbacks],
            "lone_products": self.lone_products,
        }
        _write(path, arrays, {_KEY: json.dumps(rest)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read a file that `save` wrote.

        Args:
            path: of the file.

        Returns:
            The checkpoint, with NumPy arrays.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is cut short, or no checkpoint of this version of the library.
        """
        arrays, metadata = _read(path)
        if _KEY not in metadata:
            raise ValueError(f"{path} holds weights, but no training state: it is not a checkpoint of this library")
        rest = json.loads(metadata[_KEY])

        def under(prefix: str) -> dict[str, Array]:
            return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}

        try:
            rest["optimizer"]["arrays"] = under("optimizer.")
            for i, state in enumerate(rest["callbacks"]):
                if found := under(f"callback.{i}."):
                    state["arrays"] = found
            history = {name: points.tolist() for name, points in under("history.").items()}
            return cls(weights=under("model."), history=history, **rest)
        except (KeyError, TypeError):
            raise ValueError(f"{path} is no checkpoint of this version of the library") from None


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder for what a run leaves, and see that one can write to it, before hours of work depend on it.

    Args:
        path: of the folder; those above it are made, too.

    Returns:
        The folder.

    Raises:
        OSError: it cannot be made, or not be written to; the message names it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            error.errno, f"cannot write to the output folder ({error.strerror}); choose another", str(folder)
        ) from None
    return folder


def _write(path: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: dict[str, str]) -> None:
    # safetensors takes the bytes of an array as they lie: it writes wrong numbers for one that is not C-contiguous.
    whole = {name: np.asarray(asnumpy(array), order="C") for name, array in arrays.items()}
    replace_file(path, safetensors.numpy.save(whole, metadata or None))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        if zipfile.is_zipfile(path):
            raise ValueError(
                f"{path} is no safetensors file, but perhaps one of torch.save, which only PyTorch can read: "
                "write it with safetensors.torch.save_file(model.state_dict(), path)"
            ) from None
        raise ValueError(f"{path} is cut short, or no safetensors file: {error}") from None
    except TypeError as error:  # PyTorch's bfloat16
        raise ValueError(f"{path} holds numbers that NumPy does not know ({error}): store them as float32") from None
