"""Writes the tables and figures whose content changed: the implementation of ``python evaluate.py table=...``.

Tables are rebuilt in memory, which is fast because results files are small. Files that are up to date are not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmark.cell_names import check_columns, check_datasets
from benchmark.paper import TABLES, paper_table
from benchmark.tables.latex import document, latex
from benchmark.tables.layout import lay_out
from benchmark.tables.lost_results import lost_results
from benchmark.tables.reading import FoundResults, read_results
from benchmark.tables.table import Table
from benchmark.tables.text import comma_separated, header, markdown
from benchmark.tables.text import number as cell_text
from benchmark.tables.web import web_page
from configs.tables import TableConfig
from runtime.errors import UserError
from runtime.files import write_whole
from runtime.ownership import claim

UNUSABLE_RESULTS = 3


def make_tables(config: TableConfig) -> int:
    """Builds one table, or all tables and figures, and prints what was done.

    Returns:
        Exit status: 0, or 3 if a results file could not be used or a figure not be drawn.

    Raises:
        UserError: If there are no results, a dataset is in none of them and unknown, a
            column is unknown, or the output cannot be written.
    """
    found = read_results(Path(config.results))
    check_columns(config.columns)
    check_datasets(config.datasets, sorted({key.dataset for key in (*found.files, *found.reasons)}))
    output = Path(config.output)
    numbers = TABLES if config.table == "all" else (config.table,)
    made: list[Table] = []
    lost = lost_results(found, config.datasets)
    try:
        output.mkdir(parents=True, exist_ok=True)
        unusable = [f"{name} {reason}" for name, reason in found.unusable.items()]
        for number in numbers:
            paper = paper_table(number)
            if number != "4":
                paper = replace(paper, metrics=tuple(dict.fromkeys([*paper.metrics, *config.columns])))
            table = lay_out(paper, found, config.datasets if number != "4" else ())
            table.remarks += [f"In no table: {result}" for result in lost]
            _put(table, found, config.paper, output)
            made.append(table)
            unusable = list(dict.fromkeys([*unusable, *table.conflicts]))  # each conflict once
        fragments = sorted(path.stem for path in output.glob("table[1-4].tex"))
        _update(output, {"tables.tex": document(fragments)})
        if config.table == "all":
            unusable += _figures(Path(config.results), output)
    except OSError as error:
        raise UserError(f"output={output}: cannot be written ({error.strerror}: {error.filename})") from error
    if config.logger.chosen:
        _log(config, made, found)
    if found.unlabelled:
        print(f"in no table (without cell.system): {', '.join(found.unlabelled)}")
    for result in lost:
        print(f"in no table: {result}")
    for line in unusable:
        print(f"not used: {line}")
    return UNUSABLE_RESULTS if unusable or any(result.misspelt for result in lost) else 0


def _figures(results: Path, output: Path) -> list[str]:
    """Draws the figures whose inputs changed; returns the errors of the others."""
    from benchmark.figures.rebuild_figures import (
        rebuild_figures,  # late: it imports matplotlib, which tables do not need
    )

    try:
        done = rebuild_figures(results, output)
    except UserError as error:
        return [str(error)]
    for figure in done:
        print(f"figure {figure.name}: {figure.state}")
    return [f"{figure.name}: {figure.reason}" for figure in done if figure.reason]


def _put(table: Table, found: FoundResults, paper: bool, folder: Path) -> None:
    table.remarks += [f"Not used: {file} {reason}" for file, reason in found.unusable.items()]
    name = f"table{table.number}"
    files = {
        f"{name}.md": markdown(table, paper),
        f"{name}.tex": latex(table, paper),
        f"{name}.csv": comma_separated(table),
        f"{name}.html": web_page(table, paper),
    }
    changed = _update(folder, files)
    cells = [cell for *_, cell in table.cells()]
    count = sum(cell.value is not None for cell in cells)
    state = "written" if changed else "up to date"
    print(f"table {table.number}: {state}, {count} of {len(cells)} values, {folder / name}.md .tex .csv .html")
    for text in table.warnings:
        print(f"  warning: {text}")


def _log(config: TableConfig, tables: list[Table], found: FoundResults) -> None:
    """Logs the tables."""
    from training.score_logs import log_tables  # late: it imports torch, which tables do not need

    shown, numbers = {}, {}
    for table in tables:
        name = f"table{table.number}"
        columns = ["dataset", "group", "system", "mode", *map(header, table.columns)]
        rows = [
            [
                section.dataset,
                group.name,
                row.name,
                row.key.mode,
                *(cell_text(row.cells[c.metric]) for c in table.columns),
            ]
            for section in table.sections
            for group in section.groups
            for row in group.rows
        ]
        shown[name] = columns, rows
        for section, _, row, column, cell in table.cells():
            if cell.value is not None:
                place = (name, section.dataset, row.key.system, row.key.mode, row.key.variant, column.metric)
                numbers["/".join(place)] = cell.value
    loggers = (one.settings.get("logger") or {} for rows in found.measured.values() for one in rows)
    runs = sorted({logger["run"] for logger in loggers if logger.get("run")})
    log_tables(config.logger, Path(config.output), shown, numbers, found.hashes, runs)


def _update(folder: Path, files: Mapping[str, str]) -> bool:
    """Writes the files whose content differs; returns whether there were any.

    Raises:
        ForeignFileError: If a file was not written by this program.
    """
    wanted = {folder / name: text.encode("utf-8", "backslashreplace") for name, text in files.items()}
    changed = {path: content for path, content in wanted.items() if _content(path) != content}
    claim(folder, files, f"output={folder}", ours=[path.name for path in wanted.keys() - changed.keys()])
    for path, content in changed.items():
        write_whole(path, content)
    return bool(changed)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
