# The checks of signatures (canonical=, shape=, errors=, guard=) are small Python functions. C programs need
# them without Python: here they become text that capi/check.cpp reads and runs.
"""Compile the Python checks of operator signatures to programs that libinfiniop interprets.

A program is one expression in parentheses, ``(def (parameters) statements...)``. What Python writes with
operators, attributes and calls becomes a list whose first word says what to do; see `Compiler` for the words.
What this module does not know raises `Unsupported`, and the operator's C function says so.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
from enum import IntEnum
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from infinicore import errors, schema

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Compiler", "Unsupported"]

# What a C function returns where a Python check raises.
STATUS: dict[type, int] = {
    errors.ShapeError: 11,
    errors.DTypeError: 10,
    errors.StrideError: 12,
    errors.InvalidArgument: 3,
    errors.ArgumentTypeError: 3,
    errors.OutOfRange: 3,
}

_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Div: "/", ast.Mod: "%", ast.Pow: "**",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not-in", ast.Is: "is", ast.IsNot: "is-not",
}  # fmt: skip

# Functions that the interpreter has of its own, and methods.
_BUILTINS: dict[Any, str] = {
    len: "len", max: "max", min: "min", sum: "sum", any: "any", all: "all", abs: "abs", sorted: "sorted",
    range: "range", zip: "zip", enumerate: "enumerate", reversed: "reversed", int: "int", float: "float",
    bool: "bool", tuple: "to-tuple", list: "to-tuple", set: "unique", dict.fromkeys: "unique",
    schema.canonical_axis: "canonical_axis",
}  # fmt: skip
_METHODS = ("count", "is_integer", "lower", "join", "index", "append", "startswith")
_ATTRIBUTES = ("shape", "ndim", "dtype")


class Unsupported(Exception):
    """A check uses a construct of Python that no program has a word for."""


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class Compiler:
    """Programs by number; each function is compiled once, with the functions that it calls."""

    def __init__(self) -> None:
        self.programs: list[str] = []
        self._numbers: dict[tuple[Any, ...], int] = {}

    def add(self, function: Callable[..., Any], enums: dict[str, type[IntEnum]] | None = None) -> int:
        """The number of the program for `function`; `enums` says which parameters are enumerators."""
        assert isinstance(function, FunctionType)
        cells = tuple(repr(cell.cell_contents) for cell in function.__closure__ or ())
        key = (function.__code__, cells, tuple(sorted(enums or {})))
        if key not in self._numbers:
            self._numbers[key] = len(self.programs)
            self.programs.append("")
            self.programs[self._numbers[key]] = _Function(self, function, enums or {}).text()
        return self._numbers[key]


class _Function:
    """One Python function on its way to a program."""

    def __init__(self, compiler: Compiler, function: FunctionType, enums: dict[str, type[IntEnum]]) -> None:
        self.compiler, self.function, self.enums = compiler, function, enums
        self.outside = inspect.getclosurevars(function)
        tree = _tree(function)
        self.arguments, self.body = tree.args, tree.body
        self.locals = {a.arg for a in (*tree.args.args, *tree.args.kwonlyargs)}
        self.locals |= {
            n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }

    def text(self) -> str:
        """The program."""
        names = [a.arg for a in (*self.arguments.args, *self.arguments.kwonlyargs)]
        first = len(self.arguments.args) - len(self.arguments.defaults)
        defaults = dict(zip(names[first:], self.arguments.defaults, strict=False))
        words = [f"({n} {self.expression(defaults[n])})" if n in defaults else n for n in names]
        if isinstance(self.body, list):
            body = " ".join(self.statement(s) for s in self.body)
        else:
            body = f"(return {self.expression(self.body)})"
        return f"(def ({' '.join(words)}) {body})"

    # -- statements --

    def statement(self, node: ast.stmt) -> str:
        match node:
            case ast.Expr(ast.Constant()):  # a docstring
                return "(do)"
            case ast.Expr(value):
                return f"(do {self.expression(value)})"
            case ast.Assign([target], value):
                return f"(= {self.target(target)} {self.expression(value)})"
            case ast.AugAssign(target, op, value):
                name = self.target(target)
                return f"(= {name} ({self.word(op)} (var {name}) {self.expression(value)}))"
            case ast.If(test, body, otherwise):
                return f"(if {self.expression(test)} {self.block(body)} {self.block(otherwise)})"
            case ast.For(target, source, body, []):
                return f"(for {self.target(target)} {self.expression(source)} {self.block(body)})"
            case ast.Return(value):
                return f"(return {self.expression(value) if value else '(none)'})"
            case ast.Raise(ast.Call(raised, [message]), _):
                kind = self.outer(raised)
                if kind in STATUS:
                    return f"(raise {STATUS[kind]} {self.expression(message)})"
            case ast.Continue():
                return "(continue)"
            case ast.Pass():
                return "(do)"
        raise self.unsupported(node)

    def block(self, body: list[ast.stmt]) -> str:
        return f"(do {' '.join(map(self.statement, body))})"

    def target(self, node: ast.expr) -> str:
        match node:
            case ast.Name(name):
                return name
            case ast.Starred(ast.Name(name)):
                return f"*{name}"
            case ast.Tuple(items) | ast.List(items):
                return f"({' '.join(map(self.target, items))})"
        raise self.unsupported(node)

    # -- expressions --

    def expression(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value):
                return self.constant(value, node)
            case ast.Name(name):
                if name in self.locals:
                    return f"(var {name})"
                return self.constant(self.outer(node), node)
            case ast.Tuple(items) | ast.List(items) | ast.Set(items):
                return f"(tuple {' '.join(map(self.expression, items))})"
            case ast.Starred(value):
                return f"(* {self.expression(value)})"
            case ast.Attribute(ast.Attribute(ast.Name(name), "name"), "value") if name in self.enums:
                return f"(var {name})"
            case ast.Attribute(ast.Name(name), "name") if name in self.enums:
                members = " ".join(f"(int {m.value}) {_quote(m.name)}" for m in self.enums[name])
                return f"(member (var {name}) {members})"
            case ast.Attribute(value, attribute) if attribute in _ATTRIBUTES:
                return f"({attribute} {self.expression(value)})"
            case ast.Attribute():
                return self.constant(self.outer(node), node)
            case ast.Subscript(value, ast.Slice(low, high, None)):
                ends = [self.expression(end) if end else "(none)" for end in (low, high)]
                return f"(slice {self.expression(value)} {' '.join(ends)})"
            case ast.Subscript(value, index):
                if isinstance(value, ast.Attribute | ast.Name) and not self.is_local(value):
                    found = self.outer(value)
                    if isinstance(found, dict):
                        pairs = " ".join(
                            f"{self.constant(k, node)} {self.constant(v, node)}" for k, v in found.items()
                        )
                        return f"(lookup {self.expression(index)} {pairs})"
                return f"(item {self.expression(value)} {self.expression(index)})"
            case ast.BinOp(left, op, right):
                return f"({self.word(op)} {self.expression(left)} {self.expression(right)})"
            case ast.UnaryOp(ast.Not(), value):
                return f"(not {self.expression(value)})"
            case ast.UnaryOp(ast.USub(), value):
                return f"(- (int 0) {self.expression(value)})"
            case ast.BoolOp(op, values):
                word = "and" if isinstance(op, ast.And) else "or"
                return f"({word} {' '.join(map(self.expression, values))})"
            case ast.Compare(left, [op], [right]):
                return f"({self.word(op)} {self.expression(left)} {self.expression(right)})"
            case ast.Compare(left, ops, rights):
                triples = zip([left, *rights], ops, rights, strict=False)
                words = (f"({self.word(o)} {self.expression(a)} {self.expression(b)})" for a, o, b in triples)
                return f"(and {' '.join(words)})"
            case ast.IfExp(test, yes, no):
                return f"(choose {' '.join(map(self.expression, (test, yes, no)))})"
            case ast.JoinedStr(parts):
                return f"(text {' '.join(map(self.piece, parts))})"
            case (
                ast.GeneratorExp(element, loops) | ast.ListComp(element, loops) | ast.SetComp(element, loops)
            ):
                return self.comprehension("each", [element], loops, node)
            case ast.Dict(keys, values):
                entries = zip(keys, values, strict=True)
                words = (f"{self.expression(k)} {self.expression(v)}" for k, v in entries if k)
                return f"(dict {' '.join(words)})"
            case ast.DictComp(key, value, loops):
                return self.comprehension("each-pair", [key, value], loops, node)
            case ast.Call(function, arguments, keywords):
                return self.call(node, function, arguments, keywords)
        raise self.unsupported(node)

    def comprehension(
        self, word: str, elements: list[ast.expr], loops: list[ast.comprehension], node: ast.expr
    ) -> str:
        if len(loops) != 1:
            raise self.unsupported(node)
        (loop,) = loops
        tests = [self.expression(test) for test in loop.ifs]
        condition = f"(and {' '.join(tests)})" if tests else "(bool 1)"
        made = " ".join(map(self.expression, elements))
        return f"({word} {made} {self.target(loop.target)} {self.expression(loop.iter)} {condition})"

    def call(
        self, node: ast.Call, function: ast.expr, arguments: list[ast.expr], keywords: list[ast.keyword]
    ) -> str:
        if isinstance(function, ast.Attribute) and function.attr in _METHODS:
            words = " ".join(map(self.expression, (function.value, *arguments)))
            return f"({function.attr} {words})"
        called = self.outer(function)
        if called is isinstance:
            return f"(is-kind {self.expression(arguments[0])} {self.kinds(arguments[1])})"
        if called is str:
            return f"(text {self.expression(arguments[0])})"
        if called is map and self.outer(arguments[0]) is str:
            return f"(texts {self.expression(arguments[1])})"
        if isinstance(called, type) and issubclass(called, IntEnum):
            return self.expression(arguments[0])
        named = [k for k in keywords if k.arg != "strict"]
        if called in _BUILTINS and not named:
            return f"({_BUILTINS[called]} {' '.join(map(self.expression, arguments))})"
        if isinstance(called, FunctionType) and not any(k.arg is None for k in keywords):
            number = self.compiler.add(called)
            values = [self.expression(a) for a in arguments]
            values += [f"(named {k.arg} {self.expression(k.value)})" for k in keywords]
            return f"(call {number} {' '.join(values)})"
        raise self.unsupported(node)

    def kinds(self, node: ast.expr) -> str:
        found = node.elts if isinstance(node, ast.Tuple) else [node]
        names = {tuple: "tuple", list: "tuple", int: "int", float: "float", bool: "bool", str: "str"}
        return " ".join(f'"{names[self.outer(item)]}"' for item in found)

    def piece(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(str(text)):
                return _quote(text)
            case ast.FormattedValue(value, conversion, None):
                return f"(repr {self.expression(value)})" if conversion == 114 else self.expression(value)
        raise self.unsupported(node)

    def constant(self, value: Any, node: ast.AST) -> str:
        if value is None:
            return "(none)"
        if isinstance(value, bool):
            return f"(bool {int(value)})"
        if isinstance(value, int):
            return f"(int {int(value)})"
        if isinstance(value, float):
            return f"(float {value!r})"
        if isinstance(value, str):
            return _quote(value)
        if isinstance(value, (tuple, list, frozenset, set)):
            items = sorted(value) if isinstance(value, (set, frozenset)) else value
            return f"(tuple {' '.join(self.constant(item, node) for item in items)})"
        raise self.unsupported(node)

    # -- names from outside --

    def is_local(self, node: ast.expr) -> bool:
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.locals

    def outer(self, node: ast.expr) -> Any:
        """The value of a name, or of a dotted one, that the function finds around it."""
        match node:
            case ast.Name(name) if name not in self.locals:
                for place in (self.outside.nonlocals, self.function.__globals__, vars(builtins)):
                    if name in place:
                        return place[name]
            case ast.Attribute(value, attribute):
                owner = self.outer(value)
                if owner is dict and attribute == "fromkeys":
                    return dict.fromkeys
                if isinstance(owner, ModuleType) or (isinstance(owner, type) and issubclass(owner, IntEnum)):
                    return getattr(owner, attribute)
                if isinstance(owner, IntEnum) and attribute in ("value", "name"):
                    return getattr(owner, attribute)
        raise self.unsupported(node)

    def word(self, node: ast.AST) -> str:
        try:
            return _OPERATORS[type(node)]
        except KeyError:
            raise self.unsupported(node) from None

    def unsupported(self, node: ast.AST) -> Unsupported:
        text = ast.unparse(node)
        return Unsupported(f"{self.function.__qualname__}: no program has a word for {text!r}")


@functools.cache
def _module_tree(file: str) -> ast.Module:
    with open(file) as stream:
        return ast.parse(stream.read())


def _tree(function: FunctionType) -> ast.FunctionDef | ast.Lambda:
    """The function as its file writes it."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for node in ast.walk(_module_tree(code.co_filename)):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            if code.co_firstlineno in (node.lineno, *(d.lineno for d in node.decorator_list)):
                return node
        elif isinstance(node, ast.Lambda) and code.co_name == "<lambda>":
            arguments = tuple(a.arg for a in (*node.args.args, *node.args.kwonlyargs))
            if node.lineno == code.co_firstlineno and arguments == names:
                return node
    raise Unsupported(f"the source of {function.__qualname__} is not to be found")
