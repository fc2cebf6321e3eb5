"""Writes each table as a self-contained HTML page."""

from __future__ import annotations

from html import escape

from benchmark.tables.comparability import signature
from benchmark.tables.table import Cell, Section, Table
from benchmark.tables.text import (
    SHARED_ROW,
    UNOFFICIAL,
    compared_clips,
    dataset_title,
    difference,
    header,
    in_paper,
    legend,
    number,
    paper_value,
    short_details,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 86rem; padding: 0 1rem; color: #1c1c1e; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-block: 2px solid #1c1c1e; }
th, td { padding: .25rem .55rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
thead th { border-bottom: 1px solid #1c1c1e; font-weight: 600; }
tbody + tbody { border-top: 1px solid #c7c7cc; }
td.paper, th.paper { color: #6e6e73; padding-left: 0; }
.warning { background: #fff4d6; border-left: 4px solid #d99a00; padding: .5rem .8rem; margin: .6rem 0; }
sup { color: #8a3b00; } .small { font-size: .85rem; color: #48484a; } .every { font-size: .8rem; }
@media (prefers-color-scheme: dark) {
  body { background: #1c1c1e; color: #f2f2f7; } table { border-color: #f2f2f7; } .small { color: #c7c7cc; }
  .warning { background: #4a3a10; } td.paper, th.paper { color: #aeaeb2; } sup { color: #ffb27a; }
}
"""


def web_page(table: Table, paper: bool) -> str:
    """Returns one table as a page."""
    title = escape(f"Table {table.number}: {table.title}")
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *(f'<p class="warning"><b>Warning</b> {escape(text)}</p>' for text in table.warnings),
    ]
    for section in table.sections:
        parts += _section(table, section, in_paper(section) if paper else frozenset())
    parts += [f'<p class="small">{escape(line)}</p>' for line in legend(table)]
    if table.notes:
        parts += ['<ol class="small">', *(f"<li>{escape(note)}</li>" for note in table.notes), "</ol>"]
    parts += [f'<p class="small">{escape(remark)}</p>' for remark in table.remarks]
    fields, rows = short_details(table)
    if rows:
        heads = "".join(f'<th class="text">{escape(field)}</th>' for field in fields)
        lines = ["".join(f'<td class="text">{escape(text)}</td>' for text in row) for row in rows]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(f'<h2>Every value</h2><div class="wide"><table class="every"><thead><tr>{heads}</tr></thead>')
        parts.append(f"<tbody>{body}</tbody></table></div>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _section(table: Table, section: Section, printed: frozenset[str]) -> list[str]:
    heads = "".join(
        f"<th>{escape(header(column))}</th>"
        + ('<th class="paper">paper</th><th class="paper">Δ</th>' if column.metric in printed else "")
        for column in table.columns
    )
    lines = [
        f'<h2>{escape(dataset_title(section))}</h2><div class="wide"><table>',
        f'<thead><tr><th>Method</th><th class="text">Driven</th>{heads}</tr></thead>',
    ]
    for group in section.groups:
        rows = []
        for row in group.rows:
            cells = "".join(_cell(row.cells[column.metric], column.metric in printed) for column in table.columns)
            rows.append(f'<tr><td>{escape(row.name)}</td><td class="text">{escape(row.key.mode)}</td>{cells}</tr>')
        if group.compared:
            counts = "".join(
                f"<td>{compared_clips(group, column)}</td>{'<td></td><td></td>' if column.metric in printed else ''}"
                for column in table.columns
            )
            rows.append(f'<tr class="small"><td>{SHARED_ROW}</td><td></td>{counts}</tr>')
        lines.append(f"<tbody>{''.join(rows)}</tbody>")
    return [*lines, "</table></div>"]


def _cell(cell: Cell, with_paper: bool) -> str:
    text = escape(number(cell))
    if cell.best:
        text = f"<b>{text}</b>"
    text += UNOFFICIAL if cell.value is not None and not cell.official else ""
    if cell.notes:
        text += f"<sup>{','.join(str(note) for note in cell.notes)}</sup>"
    tooltip = "\n".join(_sources(cell))
    shown = f'<td title="{escape(tooltip)}">{text}</td>'
    if with_paper:
        shown += f'<td class="paper">{paper_value(cell)}</td><td class="paper">{difference(cell)}</td>'
    return shown


def _sources(cell: Cell) -> list[str]:
    """Tooltip of a number."""
    return [
        f"{row.file}: n {row.record['n']} of {row.record['expected']}, {row.record['network']} "
        f"{str(row.record['sha256'])[:12]}, {signature(row)}"
        for row in cell.measured
    ]
