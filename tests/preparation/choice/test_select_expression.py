"""Expressions over columns: what they mean, and that nothing else is evaluated."""

from __future__ import annotations

import pyarrow as pa
import pytest

from configs.errors import ConfigError
from preparation.choice.select_expression import evaluate_condition, parse_select

COLUMNS = {"frames": pa.int32(), "blur": pa.float32(), "hdr": pa.bool_(), "emotion": pa.string(),
           "identity": pa.list_(pa.float32())}  # fmt: skip
TABLE = pa.table(
    {
        "frames": [10, 50, 90],
        "blur": [0.3, None, 0.6],
        "hdr": [False, True, None],
        "emotion": ["happy", None, "sad"],
        "identity": [[0.5], None, [1.0]],
    },
    pa.schema(COLUMNS.items()),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frames>=50", [False, True, True]),
        ("20 < frames < 60", [False, True, False]),
        ("blur<=0.3", [True, None, False]),  # 0.3 as float32 equals 0.3
        ("blur is None or blur<0.5", [True, True, False]),
        ("not hdr", [True, False, None]),
        ("emotion in ['happy', 'sad']", [True, None, True]),
        ("emotion not in ('happy',)", [False, None, True]),
        ("frames/25 > 1.5 and abs(-blur) > 0.5", [False, None, True]),
        ("hdr is not None", [True, True, False]),
        ("identity is None", [False, True, False]),
        ("frames in [10, 50.5]", [True, False, False]),
        ("-frames in [-90, 1e300]", [False, False, True]),
        ("frames in []", [False, False, False]),
        ("'a' in ['a', 'b'] and 1 in [2, 1]", [True, True, True]),
        (f"frames < {10**30}", [True, True, True]),
        (f"frames > -{10**400} and frames not in [{10**400}]", [True, True, True]),
        ("1/0 > frames", [True, True, True]),
    ],
)
def test_a_missing_measure_is_neither_true_nor_false(text, expected):
    columns = [evaluate_condition(condition, TABLE).to_pylist() for condition in parse_select(text, COLUMNS)]
    together = [False if False in row else None if None in row else True for row in zip(*columns, strict=True)]
    assert together == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame>=10", "there is no column frame; did you mean frames"),
        ("frames>=", "cannot be parsed"),
        ("frames", "is not a condition"),
        ("frames == 'ten'", "is a text, expected a number"),
        ("blur and hdr", "is not a condition"),
        ("hdr or blur", "is a number, expected a truth"),
        ("__import__('os').system('true')", "is not allowed"),
        ("frames.__class__", "is not allowed"),
        ("[x for x in [1]]", "is not allowed"),
        ("(lambda: 1)() > 0", "is not allowed"),
        ("frames ** 9 > 1", "is not allowed"),
        ("identity == identity", "identity is a list"),
        ("identity > 3", "identity is a list"),
        ("frames in [1, 'one']", "is a text, expected a number"),
        ("frames in [1 + 2]", "expected numbers or texts"),
        ("emotion in [frames]", "expected numbers or texts"),
        ("(" * 5000 + "hdr" + ")" * 5000, "at most 10000"),
        ("not " * 200 + "hdr", "nested more than"),
        ("(" * 250 + "hdr" + ")" * 250, "cannot be parsed"),
        ("hdr\0", "cannot be parsed"),
    ],
)
def test_everything_else_is_one_line_that_names_the_place(text, message):
    with pytest.raises(ConfigError, match="select") as caught:
        parse_select(text, COLUMNS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_expression_has_no_condition():
    assert parse_select("  \n ", COLUMNS) == []
