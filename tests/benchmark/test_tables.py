"""Tables from results files, compared with the paper's bold numbers, closed forms, another CSV reader, and LaTeX."""

import csv
import html.parser
import json
import os
import re
import shutil
import statistics
import subprocess

import pytest
from scipy import stats

from benchmark.paper import TABLES, paper_table
from benchmark.tables.rebuild_tables import UNUSABLE_RESULTS, make_tables
from configs.command_line import compose
from configs.errors import ConfigError
from configs.rules import check
from configs.tables import TableConfig
from runtime.errors import UserError
from tests.helpers.results import value

METRICS = ("fid", "fvd", "sync_c", "sync_d", "efid")
# Bold numbers of the paper's Table 1: (dataset, mode) -> best system per column.
BOLD = {
    ("hdtf", "A"): ("emotivetalk",) * 5,
    ("mead", "A"): ("sadtalker", "sadtalker", "hallo", "emotivetalk", "emotivetalk"),
    ("hdtf", "A+V"): ("emotivetalk",) * 5,
    ("mead", "A+V"): ("emotivetalk",) * 5,
}


def put_paper(put, number):
    """Writes the paper's values as results files."""
    paper = paper_table(number)
    for key in {key for key, _ in paper.values if key.system != "ground_truth"}:
        numbers = {metric: found for metric in paper.metrics if (found := paper.values.get((key, metric))) is not None}
        name = f"{key.dataset}-{key.mode}-{key.system}-{key.variant}.json"
        put(name, numbers, system=key.system, dataset=key.dataset, mode=key.mode, variant=key.variant)


def test_the_papers_values_give_the_papers_bold_numbers(put, make):
    put_paper(put, "1")
    status, rows, _ = make("1")
    assert status == 0
    for (dataset, mode), systems in BOLD.items():
        best = [row for row in rows if (row["dataset"], row["mode"], row["best"]) == (dataset, mode, "True")]
        assert {(row["metric"], row["system"]) for row in best} == set(zip(METRICS, systems, strict=True))
    measured = [row for row in rows if row["value"]]
    assert len(measured) == 2 * (9 * 5 + 2)
    assert all(float(row["difference"]) == 0 for row in measured if row["system"] != "ground_truth")
    truth = {row["metric"]: float(row["value"]) for row in measured if row["system"] == "ground_truth"}
    assert truth == {"sync_c": 8.5, "sync_d": 6.7}  # from the evaluations of the systems


def test_ablations_have_the_papers_bold_numbers_and_lengths_none(put, make):
    put_paper(put, "2")
    best = {(row["metric"], row["variant"]) for row in make("2")[1] if row["best"] == "True"}
    assert best == {("fid", "wo_exp"), ("fid", "wo_exp_inference"), ("sync_c", "full"), ("efid", "full")}
    put_paper(put, "3")
    rows = make("3")[1]
    assert len(rows) == 12
    assert not any(row["best"] == "True" for row in rows)


def test_every_format_has_the_same_numbers(put, make, tmp_path):
    put("one.json", {"fid": 22.104, "efid": value("efid", -1e-9, official=False)}, system="hallo")
    make("1")
    folder = tmp_path / "tables"
    texts = {ending: (folder / f"table1.{ending}").read_text() for ending in ("md", "html", "tex", "csv")}
    line = next(line for line in texts["md"].splitlines() if line.startswith("| Hallo"))
    assert [cell.strip() for cell in line.split("|")][3:6] == ["22.10", "17.15", "+4.95"]
    assert "0.00†" in line
    assert "-0.00" not in line
    assert "22.10 & 17.15 & $+4.95$" in texts["tex"]
    assert all("abababab" in text and "3 of 3" in text and "one.json" in text for text in list(texts.values())[:3])
    cells = Cells()
    cells.feed(texts["html"])
    row = next(row for row in cells.rows if row and row[0] == "Hallo")
    assert row[2:5] == ["22.10", "17.15", "+4.95"]
    found = next(row for row in csv.DictReader(texts["csv"].splitlines()) if row["value"] == "22.104")
    assert (found["n"], found["expected"], found["sha256"], found["official"]) == ("3", "3", "ab" * 6, "True")
    assert (float(found["low"]), float(found["high"])) == pytest.approx((21.604, 22.604))
    assert "paper" not in (make("1", paper=False), (folder / "table1.md").read_text())[1]


class Cells(html.parser.HTMLParser):
    """Collects the rows of all tables of a page."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.inside = False

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th") or (self.inside and tag in ("b", "sup"))
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_unusable_files_have_a_reason_and_the_others_are_used(put, make, tmp_path):
    missing = {"fvd": "needs i3d.pt\nput it there", "sync": "no ffmpeg"}
    put("good.json", {"fid": 20.0}, not_computed=missing, system="hallo")
    put("old.json", {"fid": 1.0}, system="anitalker", schema="emotivetalk.evaluation/0")
    put("twin1.json", {"fid": 1.0, "efid": 1.0}, system="aniportrait")
    put("twin2.json", {"fid": 2.0, "efid": 2.0}, system="aniportrait")
    put("mine.json", {"fid": 3.0})
    put("nan.json", {"fid": 3.0}, system="pdfgc", mode="A+V")
    results = tmp_path / "results"
    text = (results / "nan.json").read_text()
    (results / "nan.json").write_text(text.replace('"value": 3.0', '"value": NaN'))
    (results / "broken.json").write_text('{"schema": "emotivetalk.evaluation/1"')
    os.mkfifo(results / "pipe.json")
    (results / "endless.json").symlink_to("/dev/zero")
    (results / "folder.json").mkdir()
    with (results / "huge.json").open("wb") as file:
        file.truncate(2**29)  # sparse
    edited = json.loads(text)
    edited["metrics"] = {"efid": edited["metrics"]["fid"], "fid": {**edited["metrics"]["fid"]}}
    del edited["metrics"]["fid"]["sha256"]
    (results / "edited.json").write_text(json.dumps(edited))
    reason = {"system": "dreamtalk", "dataset": "hdtf", "mode": "A+V", "reason": "weights on request only"}
    (results / "runs.json").write_text(json.dumps({"schema": "emotivetalk.not_run/1", "rows": [reason]}))
    status, rows, printed = make("1")
    assert status == UNUSABLE_RESULTS
    reasons = {(row["system"], row["mode"], row["metric"]): row["reason"] for row in rows if row["dataset"] == "hdtf"}
    assert reasons["hallo", "A", "fid"] == ""
    assert reasons["hallo", "A", "fvd"] == "not computed: needs i3d.pt (good.json)"
    assert reasons["hallo", "A", "sync_d"] == "not computed: no ffmpeg (good.json)"
    assert "not among the metrics" in reasons["hallo", "A", "efid"]
    assert "schema 'emotivetalk.evaluation/0'" in reasons["anitalker", "A", "fid"]
    assert "twin1.json and twin2.json are two results for one cell" in reasons["aniportrait", "A", "fid"]
    assert reasons["dreamtalk", "A+V", "efid"] == "weights on request only (runs.json)"
    assert "not run" in reasons["sadtalker", "A", "fid"]
    assert not any(row["value"] for row in rows if row["system"] in ("aniportrait", "pdfgc", "anitalker"))
    assert "in no table (without cell.system): mine.json" in printed
    for name in ("pipe", "endless", "folder"):
        assert f"{name}.json cannot be read (is not a regular file)" in printed
    assert f"huge.json cannot be read (has {2**29} bytes, expected at most {2**28})" in printed
    assert printed.count("twin1.json and twin2.json are two results") == 1
    for name in ("nan.json is damaged or was edited (fid is nan)", "broken.json is damaged", "no 'fid.sha256' where"):
        assert name in printed


def test_different_protocols_or_networks_give_a_warning(put, make):
    put("a.json", {"sync_c": 7.0, "fid": 10.0}, system="hallo")
    sync = value("sync_c", 6.0, protocol={"name": "x", "min_track": 100})
    put("b.json", {"sync_c": sync, "fid": 9.0}, system="sadtalker")
    _, rows, printed = make("1")
    assert "Sync-C: 2 protocols in one table" in printed
    assert "min_track=50" in printed
    assert "FID: 2" not in printed
    assert {row["metric"] for row in rows if row["best"] == "True"} == {"fid"}
    put("c.json", {"fid": value("fid", 8.0, official=False)}, system="anitalker", clips=("a", "z"))
    assert "FID: 2 protocols in one table" in make("1")[2]


def test_controls_may_have_another_encoding_but_no_other_network(put, make):
    control = {"system": "still", "mode": "control"}
    put("a.json", {"sync_c": 7.0, "fid": 10.0}, system="emotivetalk", encoding="H.264 crf 8 4:2:0")
    put("b.json", {"sync_c": 6.0, "fid": 9.0}, **control)
    assert "protocols in one table" not in make("1")[2]
    put("b.json", {"sync_c": 6.0, "fid": value("fid", 8.0, official=False)}, **control)
    printed = make("1")[2]
    assert "FID: 2 protocols in one table" in printed
    assert "Sync-C: 2 protocols" not in printed
    put("c.json", {"sync_c": 6.0}, system="hallo")
    assert "Sync-C: 2 protocols in one table" in make("1")[2]


def test_rows_of_other_lengths_may_have_other_real_videos(put, make):
    for frames in (120, 250):
        put(f"{frames}.json", {"fid": 20.0}, real=f"cut to {frames}", system="emotivetalk", variant=f"{frames}_frames")
    assert "not compared" not in make("3")[2]


def test_an_evaluation_of_the_real_videos_takes_precedence(put, make):
    put("a.json", {"sync_c": 7.0}, system="hallo")
    truth = {"ground_truth": {"value": 8.1, "n": 3, "expected": 3}}
    put("b.json", {"sync_c": value("sync_c", 6.0, extra=truth)}, system="sadtalker")
    _, rows, printed = make("1")
    assert "hdtf: the real videos' Sync-C is 8.1 (n 3) to 8.5 (n 3)" in printed
    put("real.json", {"sync_c": 8.63, "fid": 0.0}, system="ground_truth", mode="A+V")
    _, rows, printed = make("1")
    assert "the real videos' Sync-C" not in printed
    truth = {row["metric"]: row["value"] for row in rows if (row["system"], row["dataset"]) == ("ground_truth", "hdtf")}
    assert truth == {"fid": "", "fvd": "", "sync_c": "8.63", "sync_d": "", "efid": ""}


def test_three_runs_give_students_interval_and_two_give_none(put, make, tmp_path):
    numbers = (15.0, 16.5, 17.1)
    for run, number in enumerate(numbers[:2]):
        put(f"run{run}.json", {"fid": number}, system="emotivetalk", variant="wo_lip", run=run)
    make("2")
    table = tmp_path / "tables" / "table2.md"
    assert "±" not in table.read_text()
    put("run2.json", {"fid": numbers[2]}, system="emotivetalk", variant="wo_lip", run=2)
    make("2")
    low, high = stats.t.interval(0.95, 2, statistics.fmean(numbers), stats.sem(numbers))
    line = next(x for x in table.read_text().splitlines() if x.startswith("| w/o lip"))
    assert f"{statistics.fmean(numbers):.2f} ± {(high - low) / 2:.2f}" in line


def test_other_systems_join_their_mode_and_controls_are_not_ranked(put, make):
    put("a.json", {"sync_c": 7.0}, system="hallo", dataset="mini")
    put("b.json", {"sync_c": 7.5}, system="my_system", dataset="mini")
    put("c.json", {"sync_c": 9.0}, system="shifted", dataset="mini", mode="control", offset=10)
    _, rows, _ = make("1", datasets=["mini"])
    found = {row["system"]: row for row in rows if row["metric"] == "sync_c" and row["value"]}
    assert [row["system"] for row in rows if row["metric"] == "sync_c"][:6][-1] == "my_system"
    expected = {"hallo": "False", "my_system": "True", "shifted": "False", "ground_truth": "False"}
    assert {name: row["best"] for name, row in found.items()} == expected
    assert (found["shifted"]["offset"], found["hallo"]["offset"]) == ("10", "0")


def test_only_changed_files_are_written(put, make, tmp_path):
    put("a.json", {"fid": 10.0}, system="hallo")
    assert make("all")[2].count(": written") == 4

    def stamps():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tables").iterdir()}

    first = stamps()
    assert make("all")[2].count(": up to date") == 4
    assert stamps() == first
    put("b.json", {"fid": 15.0}, system="emotivetalk", variant="120_frames")
    printed = make("all")[2]
    assert "table 3: written" in printed
    assert printed.count(": up to date") == 3
    assert {name for name, stamp in stamps().items() if stamp != first[name]} == {
        f"table3.{ending}" for ending in ("md", "tex", "csv", "html")
    }
    (tmp_path / "tables" / "table1.md").write_text("edited by hand")
    assert "table 1: written" in make("all")[2]
    assert "Hallo" in (tmp_path / "tables" / "table1.md").read_text()
    assert [path.name for path in (tmp_path / "tables").glob(".*")] == [".emotivetalk.json"]


def test_latex_compiles(put, make, tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    put("hard_name&50%.json", {"fid": 10.0, "efid": value("efid", 1.0, official=False)}, system="hallo")
    put("other.json", {"fid": 9.0}, not_computed={"fvd": 'path C:\\x_{y}^~ <a|b> #1 $2 "q" 北 ü'}, system="my_№1")
    put("bracket.json", {"fid": 9.0}, system="[*] brackets")
    make("all")
    folder = tmp_path / "tables"
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", "tables.pdf", "-"]
        text = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
        assert re.search(r"Hallo\s+A\s+10\.00\s+17\.15\s+.7\.15", text)
        assert "C:\\x {y}" in text.replace("_", " ")


def test_invalid_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="table=5: expected one of 1, 2, 3, 4, all"):
        check(TableConfig("5"))
    with pytest.raises(UserError, match="does not exist; expected the folder of evaluate"):
        make_tables(TableConfig("1", str(tmp_path / "nowhere"), str(tmp_path)))
    config = compose("tables", TableConfig, ["table=1", f"results={tmp_path}/a b (1)", "datasets=[mini]"])
    assert (config.results, config.datasets) == (f"{tmp_path}/a b (1)", ["mini"])


def test_the_papers_tables_are_complete():
    for number in TABLES:
        paper = paper_table(number)
        keys = {row.key(dataset) for group in paper.groups for row in group.rows for dataset in paper.datasets}
        assert {key for key, _ in paper.values} == keys


HOSTILE = ("<script>alert(1)</script>", '=HYPERLINK("http://evil.example","A")', "+1", "@SUM(1)", " =1+1", "-2|x")


@pytest.mark.parametrize("text", HOSTILE)
def test_modes_and_systems_are_neither_markup_nor_formulas(put, make, tmp_path, text):
    put("a.json", {"fid": 15.0}, system=text, mode=text)
    _, rows, _ = make("1")
    shown = [row for row in rows if row["value"]]
    assert shown
    for row in shown:
        for cell in row.values():
            assert cell.lstrip()[:1] not in tuple("=+@"), cell
            assert cell.lstrip()[:1] != "-" or float(cell) < 0
    markdown = (tmp_path / "tables" / "table1.md").read_text()
    assert not re.search(r"(?<!\\)<script", markdown)
    row = next(line for line in markdown.splitlines() if "15.00" in line)
    title = next(line for line in markdown.splitlines() if line.startswith("| ") and "FID" in line)
    assert len(re.split(r"(?<!\\)\|", row)) == len(re.split(r"(?<!\\)\|", title))
