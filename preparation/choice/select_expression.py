"""Expressions over the columns of a scan: ``frames>=120 and face_px>=200 and not interlaced``.

Python's grammar is used, and only what is listed here is allowed: columns, numbers, texts, True, False, None, lists;
``and or not``; ``< <= > >= == != in``, ``is None``; ``+ - * /`` and ``abs``. Nothing is executed as Python.

All numbers are in double precision. A comparison with a missing measure is neither true nor false; a shot is chosen if
the whole expression is true. Use ``blur is None or blur<0.6`` to keep shots without the measure.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from configs.errors import ConfigError

MAX_LENGTH = 10_000  # characters
MAX_DEPTH = 60  # of parentheses and operators
COMPARISONS: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: pc.less, ast.LtE: pc.less_equal, ast.Gt: pc.greater, ast.GtE: pc.greater_equal, ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: pc.add, ast.Sub: pc.subtract, ast.Mult: pc.multiply, ast.Div: pc.divide,
}  # fmt: skip
EXAMPLE = 'e.g. select="frames>=120 and face_px>=200"'


@dataclass(frozen=True)
class Condition:
    """One of the conditions that an expression joins by ``and``.

    Attributes:
        text: The condition as it was typed.
        node: Its syntax tree.
    """

    text: str
    node: ast.expr


def parse_select(text: str, columns: dict[str, pa.DataType]) -> list[Condition]:
    """Parses an expression.

    Args:
        text: The expression; empty for no condition.
        columns: Column name -> type.

    Returns:
        The conditions that it joins by ``and``, in order.

    Raises:
        ConfigError: If it cannot be parsed, uses anything else, or names an unknown column; names the nearest one.
    """
    text = " ".join(text.split())
    if not text:
        return []
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"select: has {len(text)} characters, expected at most {MAX_LENGTH}")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise ConfigError(f"select={text}: cannot be parsed{place}; expected a condition, {EXAMPLE}") from error
    conditions = [
        Condition(ast.get_source_segment(text, node) or text, node)
        for node in (tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree])
    ]
    for condition in conditions:
        if _kind(condition.node, text, columns, 0) != "truth":
            raise ConfigError(f"select: {condition.text} is not a condition; expected a comparison, {EXAMPLE}")
    return conditions


def evaluate_condition(condition: Condition, table: pa.Table) -> pa.ChunkedArray:
    """Evaluates a parsed condition for every row; null where a missing measure leaves it open."""
    value = _value(condition.node, table)
    return value if isinstance(value, pa.ChunkedArray) else pa.chunked_array([pa.repeat(value, len(table))])


def _kind(node: ast.expr, text: str, columns: dict[str, pa.DataType], depth: int) -> str:
    """Checks a syntax tree; returns the kind of its value: truth, number, text or nothing."""

    def inner(part: ast.expr) -> str:
        return _kind(part, text, columns, depth + 1)

    def require(part: ast.expr, kind: str) -> None:
        if (found := inner(part)) != kind:
            raise ConfigError(f"select: {ast.unparse(part)} is a {found}, expected a {kind} in {ast.unparse(node)}")

    if depth > MAX_DEPTH:
        raise ConfigError(f"select: is nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Name(id=name):
            if name not in columns:
                near = difflib.get_close_matches(name, columns, 3, 0.4)
                hint = f"did you mean {' or '.join(near)}?" if near else "docs/data.md lists the columns"
                raise ConfigError(f"select: there is no column {name}; {hint}")
            return _kind_of(columns[name])
        case ast.Constant(value=bool()):
            return "truth"
        case ast.Constant(value=int() | float()):
            return "number"
        case ast.Constant(value=str()):
            return "text"
        case ast.BoolOp(values=values):
            for value in values:
                require(value, "truth")
            return "truth"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            require(operand, "truth")
            return "truth"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            require(operand, "number")
            return "number"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            require(left, "number")
            require(right, "number")
            return "number"
        case ast.Call(func=ast.Name(id="abs"), args=[argument], keywords=[]):
            require(argument, "number")
            return "number"
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
            inner(left)
            return "truth"
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[ast.List() | ast.Tuple() as listed]):
            kind = inner(left)
            for element in listed.elts:
                if not isinstance(_unsigned(element), ast.Constant):
                    raise ConfigError(f"select: {ast.unparse(element)} in a list; expected numbers or texts")
                require(element, kind)
            return "truth"
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in COMPARISONS for op in ops):
            kind = inner(left)
            if kind == "list":
                raise ConfigError(f"select: {ast.unparse(left)} is a list; expected a number, text or truth, {EXAMPLE}")
            for part in comparators:
                require(part, kind)
            return "truth"
    raise ConfigError(
        f"select: {ast.unparse(node)} is not allowed; expected columns, numbers and comparisons, {EXAMPLE}"
    )


def _unsigned(node: ast.expr) -> ast.expr:
    return node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node


def _constant(value: Any) -> pa.Scalar:
    """A number as a float; one that is too large is infinite."""
    if isinstance(value, str | bool):
        return pa.scalar(value)
    try:
        return pa.scalar(float(value), pa.float64())
    except OverflowError:
        return pa.scalar(math.inf, pa.float64())


def _kind_of(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_string(kind):
        return "text"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else "list"


def _value(node: ast.expr, table: pa.Table) -> Any:
    """Evaluates a checked syntax tree, column by column."""
    match node:
        case ast.Name(id=name):
            column = table[name]
            if _kind_of(column.type) != "number":
                return column
            wide = pc.cast(column, pa.float64())  # as the thresholds are written, so that 0.3 equals 0.3
            return pc.round(wide, 6) if pa.types.is_float32(column.type) else wide
        case ast.Constant(value=value):
            return _constant(value)
        case ast.BoolOp(op=junction, values=parts):
            joined = pc.and_kleene if isinstance(junction, ast.And) else pc.or_kleene
            found = _value(parts[0], table)
            for part in parts[1:]:
                found = joined(found, _value(part, table))
            return found
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return pc.invert(_value(operand, table))
        case ast.UnaryOp(operand=operand):
            return pc.negate(_value(operand, table))
        case ast.BinOp(left=left, op=operator, right=right):
            return ARITHMETIC[type(operator)](_value(left, table), _value(right, table))
        case ast.Call(args=[argument]):
            return pc.abs(_value(argument, table))
        case ast.Compare(left=left, ops=[ast.Is()]):
            return pc.is_null(_value(left, table))
        case ast.Compare(left=left, ops=[ast.IsNot()]):
            return pc.is_valid(_value(left, table))
        case ast.Compare(
            left=left, ops=[ast.In() | ast.NotIn() as member], comparators=[ast.List() | ast.Tuple() as listed]
        ):
            column = _value(left, table)
            among = pa.array([_value(element, table).as_py() for element in listed.elts], column.type)
            inside = pc.is_in(column, value_set=among)
            inside = pc.if_else(pc.is_valid(column), inside, None)
            return inside if isinstance(member, ast.In) else pc.invert(inside)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [_value(side, table) for side in (left, *comparators)]
            found = None
            for op, a, b in zip(ops, sides[:-1], sides[1:], strict=True):
                holds = COMPARISONS[type(op)](a, b)
                found = holds if found is None else pc.and_kleene(found, holds)
            return found
    raise AssertionError(f"unchecked: {ast.dump(node)}")
