"""Public docstrings describe every parameter, tell the result, and name the errors that the code raises itself.

Public are the functions, classes and methods without an underscore that a module defines. Of two kinds the words stand
elsewhere: the classes behind the operations are read through their functions, and what the `forward`, `backward` and
`definition` of a Function take and return is said in `Function` and `Fused`. The examples are run by `test_package.py`.
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

MODULES = sorted(info.name for info in pkgutil.walk_packages(tinygrad_nlp.__path__, "tinygrad_nlp."))

NOTHING = {"None", "Iterator[None]", "AbstractContextManager[None]"}
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example):")
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
    if issubclass(cls, Function) and any(name in vars(base) for base in cls.__mro__[1:]):
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
        function = vars(value).get("__init__") or vars(value).get("__new__")  # the second is a named tuple's
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
    return {name for name in names if not name.startswith("_")}  # _error(…) says elsewhere what it makes


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
        if result not in NOTHING and "Returns" not in sections(value):
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
