"""Public docstrings describe every parameter, tell the result, and name the errors that the code raises itself.

Public are the functions, classes and methods without an underscore that a module defines. Of three kinds the words
stand elsewhere: the classes behind the operations and the fused kernels are read through the functions that call them,
and what a method takes and returns that overrides another is said there; save the `forward` of Modules, each of which
takes something else. The examples are run by `test_package.py`.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
import types

import pytest

import tinygrad_nlp
from tinygrad_nlp.autograd import Function, ops
from tinygrad_nlp.nn import Module

PRIVATE = re.compile(r"\._|\.nn\.fused\b")
MODULES = sorted(
    info.name for info in pkgutil.walk_packages(tinygrad_nlp.__path__, "tinygrad_nlp.") if not PRIVATE.search(info.name)
)

NOTHING = {"None", "Iterator[None]", "AbstractContextManager[None]"}
SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Example):")
ENTRY = re.compile(r"    (\*{0,2}\w+(?:, \*{0,2}\w+)*):")


# --- what is public ---------------------------------------------------------------------------------------------------


def public_values(module):
    """What a module defines, by name: functions, classes, and the methods and properties of these."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield f"{module.__name__}.{name}", value
        elif inspect.isclass(value) and not (".ops." in module.__name__ and issubclass(value, Function)):
            yield f"{module.__name__}.{name}", value
            for attribute, method in vars(value).items():
                if is_public_method(value, attribute, method):
                    yield f"{module.__name__}.{name}.{attribute}", getattr(method, "__func__", method)


def is_public_method(cls, name, value):
    if name.startswith("_"):
        return False
    overrides = any(name in vars(base) for base in cls.__mro__[1:])
    if overrides and not (issubclass(cls, Module) and name == "forward"):
        return False
    if isinstance(value, property):
        return True
    function = getattr(value, "__func__", value)  # of classmethods and staticmethods
    return inspect.isfunction(function) and function.__module__ == cls.__module__  # operations are seen where they are


def loaded(name):
    if name.startswith("tinygrad_nlp.plot"):
        pytest.importorskip("matplotlib", reason="pictures need matplotlib (the extra viz)")
    return importlib.import_module(name)


# --- what a docstring says --------------------------------------------------------------------------------------------


def sections(value):
    """The lines of a docstring by the section that they are in."""
    found, section = {}, None
    for line in (inspect.getdoc(value) or "").splitlines():
        match = SECTION.fullmatch(line)
        if match:
            section = match[1]
            found[section] = []
        elif line and not line.startswith(" "):
            section = None
        elif section:
            found[section].append(line)
    return found


def entries(value, section):
    """The names at the beginning of the entries of a section: `x: …`, or `rtol, atol: …`."""
    matches = [ENTRY.match(line) for line in sections(value).get(section, [])]
    return {name.lstrip("*") for match in matches if match for name in match[1].split(", ")}


# --- what the code says -----------------------------------------------------------------------------------------------


def parameters(value):
    """The names of what a caller passes, of a class to its __init__; those of *args and **kwargs apart."""
    function = value
    if inspect.isclass(value):
        function = value.__new__ if issubclass(value, tuple) else value.__init__  # also an inherited one
    if not inspect.isfunction(function):
        return set(), set()
    found = list(inspect.signature(function).parameters.values())
    if found and (inspect.isclass(value) or found[0].name in ("self", "cls")):
        found = found[1:]
    passed_on = {p.name for p in found if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return {p.name for p in found} - passed_on, passed_on


def raised(value):
    """The names of the errors in the raise statements of a function, a property, or what makes an object of a class."""
    if inspect.isclass(value):
        functions = [vars(value).get("__init__"), vars(value).get("__post_init__")]
    elif isinstance(value, property):
        functions = [value.fget, value.fset]
    else:
        functions = [value]
    names = set()
    for function in filter(inspect.isfunction, functions):
        function = inspect.unwrap(function)
        if not function.__code__.co_filename.startswith("<"):  # a dataclass's own __init__ has no source
            names |= raised_in(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0])
    return names


def raised_in(tree):
    """Those of a function itself, not of the functions within it."""
    stack, names = list(tree.body), set()
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            names.add(node.exc.func.id)
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            stack.extend(ast.iter_child_nodes(node))
    # _error(…) says elsewhere what it makes; NotImplementedError says that a subclass has to write the method.
    return {name for name in names if not name.startswith("_")} - {"NotImplementedError"}


# --- the rules --------------------------------------------------------------------------------------------------------


def faults(value):
    """What is wrong with the docstring of something public."""
    doc = inspect.getdoc(value) if isinstance(value, property) else value.__doc__
    if not doc:
        return ["no docstring"]
    found = ["``double`` backticks"] if "``" in doc else []
    if not isinstance(value, property):
        wanted, passed_on = parameters(value)
        given = entries(value, "Args")
        fields = entries(value, "Attributes") if inspect.isclass(value) else set()  # of a record, its parameters
        found += [f"Args: {name} is missing" for name in sorted(wanted - given - fields)]
        found += [f"Args: {name} is no parameter" for name in sorted(given - wanted - passed_on)]
    if inspect.isfunction(value) and any(parameters(value)):  # without parameters, the first line tells the result
        result = inspect.signature(value).return_annotation
        result = result if isinstance(result, str) else inspect.formatannotation(result)
        if result not in NOTHING and not {"Returns", "Yields"} & set(sections(value)):
            found.append(f"Returns: is missing, for {result}")
    found += [f"Raises: {name} is missing" for name in sorted(raised(value) - entries(value, "Raises"))]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_public_docstrings_are_whole(name):
    found = {path: faults(value) for path, value in public_values(loaded(name))}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_every_operation_says_what_becomes_of_the_dtype():
    assert [name for name in ops.__all__ if "dtype" not in getattr(ops, name).__doc__] == []


def test_the_walk_reaches_functions_classes_methods_and_properties():
    kinds = {
        "autograd.variable.Variable": type,
        "autograd.variable.Variable.backward": types.FunctionType,
        "autograd.variable.Variable.device": property,
        "autograd.ops.shaping.reshape": types.FunctionType,
        "autograd.function.Fused.definition": types.FunctionType,
        "backend.asnumpy": types.FunctionType,
    }
    found = {path: value for name in MODULES for path, value in public_values(loaded(name))}
    assert {path: type(found[f"tinygrad_nlp.{path}"]) for path in kinds} == kinds


def test_the_rules_find_what_is_wrong():
    def longer(x, size, *rest) -> int:
        """``x``, made longer.

        Args:
            x: what it is.
            old: gone.
        """
        if size:
            raise ValueError("size")
        return x

    def shorter(x, size, *rest) -> int:
        """X, made shorter.

        Args:
            x, size: what they are.
            *rest: passed on.

        Returns:
            It.

        Raises:
            ValueError: a size.
        """
        if size:
            raise ValueError("size")
        return x

    class Empty:
        pass

    assert faults(shorter) == []
    assert faults(Empty) == ["no docstring"]
    assert faults(longer) == [
        "``double`` backticks",
        "Args: size is missing",
        "Args: old is no parameter",
        "Returns: is missing, for int",
        "Raises: ValueError is missing",
    ]
