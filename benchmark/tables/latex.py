r"""Writes tables in LaTeX: a fragment per table, for ``\input``, and a document with all fragments of a folder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from benchmark.tables.table import Cell, Section, Table
from benchmark.tables.text import (
    SHARED_ROW,
    UNOFFICIAL,
    compared_clips,
    dataset_title,
    difference,
    in_paper,
    legend,
    number,
    paper_value,
    short_details,
)
from evaluation.results import Column

NEGATIVE = re.compile(r"(?<![\w.}-])-(?=\d)")  # the minus sign of a number; a hyphen would be shorter
PACKAGES = ("booktabs", "array", "longtable", "graphicx")
_SYMBOLS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # after a line break they would be read as its options
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "Δ": r"$\Delta$",
    "–": "--",
}
_ARROWS = {"lower": r"$\downarrow$", "higher": r"$\uparrow$"}


def escaped(text: str) -> str:
    """Escapes text for LaTeX. Letters without a font lose their accents or become a question mark."""
    return NEGATIVE.sub("$-$", "".join(_character(character) for character in " ".join(text.split())))


def _character(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if character.isascii() and character.isprintable():
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_SYMBOLS.get(letter, letter) for letter in plain) or "?"


def latex(table: Table, paper: bool) -> str:
    """Returns one table as a fragment."""
    lines = [f"% Table {table.number}; needs {', '.join(PACKAGES)}. Made from results files, do not edit."]
    for section in table.sections:
        lines += _section(table, section, in_paper(section) if paper else frozenset())
    lines += [rf"\par\noindent\textbf{{Warning:}} {escaped(text)}\par" for text in table.warnings]
    lines += [rf"\par\noindent {escaped(text)}" for text in legend(table)]
    lines += [rf"\par\noindent $^{{{place}}}$ {escaped(note)}" for place, note in enumerate(table.notes, 1)]
    lines += [rf"\par\noindent {escaped(remark)}" for remark in table.remarks]
    lines += [r"\par", *_every_value(table)]
    return "\n".join(lines) + "\n"


def _section(table: Table, section: Section, printed: frozenset[str]) -> list[str]:
    caption = f"EmotiveTalk's Table {table.number}: {table.title}, {dataset_title(section)}"
    columns = "ll" + "".join("rrr" if column.metric in printed else "r" for column in table.columns)
    lines = [
        r"\begin{table}[ht]",
        r"\centering\small",
        rf"\caption{{{escaped(caption)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(["Method", "Driven", *(_heads(each, each.metric in printed) for each in table.columns)]) + r" \\",
    ]
    for group in section.groups:
        lines.append(r"\midrule")
        for row in group.rows:
            cells = [_cell(row.cells[column.metric], column.metric in printed) for column in table.columns]
            lines.append(" & ".join([escaped(row.name), escaped(row.key.mode), *cells]) + r" \\")
        if group.compared:
            blanks = {True: " & & ", False: ""}
            counts = [compared_clips(group, each) + blanks[each.metric in printed] for each in table.columns]
            lines.append(" & ".join([rf"\emph{{{SHARED_ROW}}}", "", *counts]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]


def _heads(column: Column, with_paper: bool) -> str:
    title = f"{escaped(column.title)} {_ARROWS[column.better]}"
    return rf"{title} & paper & $\Delta$" if with_paper else title


def _cell(cell: Cell, with_paper: bool) -> str:
    text = escaped(number(cell))
    if cell.best:
        text = rf"\textbf{{{text}}}"
    marks = [r"\dagger"] if cell.value is not None and not cell.official else []
    marks += [",".join(str(note) for note in cell.notes)] if cell.notes else []
    text += f"$^{{{','.join(marks)}}}$" if marks else ""
    if not with_paper:
        return text
    return f"{text} & {paper_value(cell)} & {f'${change}$' if (change := difference(cell)) else ''}"


def _every_value(table: Table) -> list[str]:
    fields, rows = short_details(table)
    if not rows:
        return []
    widths = ("1.3cm", "1cm", "2.3cm", "2.6cm", "1.4cm", "1.9cm", "1.2cm", "2.8cm", "2.8cm", "3.2cm")
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{width}}}" for width in widths)
    return [
        r"{\scriptsize\setlength{\tabcolsep}{2pt}",
        rf"\begin{{longtable}}{{{columns}}}",
        r"\toprule",
        " & ".join(escaped(field) for field in fields) + r" \\ \midrule \endhead",
        *(" & ".join(_breakable(text) for text in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{longtable}}",
    ]


def _breakable(text: str) -> str:
    """Escapes text and allows line breaks after underscores."""
    return escaped(text).replace(r"\_", r"\_\allowbreak ").replace(UNOFFICIAL, r"$\dagger$")


def document(fragments: Iterable[str]) -> str:
    """Returns a document that includes the named fragments."""
    inputs = "\n".join(rf"\input{{{name}}}\clearpage" for name in fragments)
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    return (
        "\\documentclass[a4paper]{article}\n\\usepackage[a4paper,landscape,margin=15mm]{geometry}\n"
        f"{packages}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
