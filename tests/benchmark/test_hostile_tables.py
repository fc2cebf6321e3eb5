"""Tables from results that mislead: what is shown, what is refused, and why."""

import json

import pytest

from configs.errors import ConfigError
from tests.helpers.refusals import refuses
from tests.helpers.results import value

TEN = [f"a{number}" for number in range(10)]
OTHERS = [f"b{number}" for number in range(10)]


def shown(tmp_path, number="1"):
    """Returns row name -> cells of the Markdown table, by dataset and mode A."""
    text = (tmp_path / "tables" / f"table{number}.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {(row[0], row[1]): row[2:] for row in reversed(rows)}


def best(rows):
    """Returns the (system, metric) of all bold values."""
    return {(row["system"], row["metric"]) for row in rows if row["best"] == "True"}


def test_systems_on_different_clips_are_not_compared(put, make, tmp_path):  # A1
    put("a.json", {"fid": 22.0}, clips=TEN, system="sadtalker")
    put("b.json", {"fid": 15.0}, clips=OTHERS, system="hallo")
    _, rows, printed = make("1")
    assert best(rows) == set()
    assert shown(tmp_path)["Hallo", "A"][0].startswith("(15.00)")
    assert (
        "hdtf, A: SadTalker is not compared with the other rows: FID: n 10; of the 10 clips of Hallo: 10 absent"
        in printed
    )


def test_few_clips_stand_apart_with_their_own_n(put, make, tmp_path):  # B3 a
    put("a.json", {"fid": 22.0}, clips=TEN, system="sadtalker")
    put("b.json", {"fid": 25.0}, clips=TEN, system="anitalker")
    put("c.json", {"fid": 15.0}, clips=TEN[:2], expected=10, system="hallo")
    _, rows, printed = make("1")
    assert best(rows) == {("sadtalker", "fid")}
    assert "Hallo is not compared with the other rows: FID: n 2; of the 10 clips of SadTalker: 8 absent" in printed
    assert shown(tmp_path)["*shared clips*", ""][0] == "n 10"


@pytest.mark.parametrize("metric", ["fid", "sync_d"])
def test_rows_with_nine_of_ten_clips_are_scored_on_the_shared_ones(put, make, tmp_path, metric):
    put("a.json", {metric: 22.0}, clips=TEN, spread=0.5, system="sadtalker")
    put("b.json", {metric: 15.0}, clips=TEN[1:], spread=0.5, expected=10, system="hallo")
    _, rows, _ = make("1")
    found = {row["system"]: row for row in rows if row["metric"] == metric and row["value"] and row["mode"] == "A"}
    assert found["sadtalker"]["shown"] != found["sadtalker"]["value"]
    put("a.json", {metric: 22.0}, clips=TEN[1:], spread=0.5, system="sadtalker")
    if metric == "fid":  # the draw of a clip depends on its name, not on its place
        again = next(row for row in make("1")[1] if row["system"] == "sadtalker" and row["value"])
        assert float(found["sadtalker"]["shown"]) == pytest.approx(float(again["value"]), rel=1e-9)
    assert (found["hallo"]["n"], found["sadtalker"]["n"], found["sadtalker"]["compared"]) == ("9", "10", "9")
    assert found["hallo"]["shown"] == found["hallo"]["value"]


def test_values_that_cannot_be_scored_again_are_not_compared(put, make, tmp_path):
    put("a.json", {"fid": 22.0}, clips=TEN, features=False, system="sadtalker")
    put("b.json", {"fid": 15.0}, clips=TEN[1:], expected=10, system="hallo")
    _, rows, _ = make("1")
    assert best(rows) == set()
    text = (tmp_path / "tables" / "table1.md").read_text()
    assert "the features of a.json are not in the cache" in text
    assert shown(tmp_path)["SadTalker", "A"][0].startswith("(22.00)")


def test_without_features_nothing_is_bold_and_the_table_says_why(put, make, tmp_path):
    put("a.json", {"fid": 22.0}, system="sadtalker")
    put("b.json", {"fid": 15.0}, features=False, system="hallo")
    _, rows, _ = make("1")
    assert best(rows) == set()
    assert shown(tmp_path)["Hallo", "A"][0] == "15.00"
    assert "hdtf, A, FID: nothing is bold: the features of b.json are not in the cache" in (
        tmp_path / "tables" / "table1.md"
    ).read_text().replace("\\", "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"real": "framed otherwise"}, "another real video in 10"),  # B3 b
        ({"frames": 2}, "other frames in 10"),  # B3 c
        ({"encoding": "H.264 crf 8 4:2:0"}, "encoding="),  # C8
        ({"size": 252}, "generated 252 x 252, real 256 x 256 pixels in 10 of 10 clips"),  # B8
    ],
)
def test_other_frames_sizes_and_encodings_are_not_compared(put, make, tmp_path, changes, reason):
    put("a.json", {"fid": 22.0}, clips=TEN, system="sadtalker")
    put("b.json", {"fid": 25.0}, clips=TEN, system="anitalker")
    put("c.json", {"fid": 15.0}, clips=TEN, system="hallo", **changes)
    _, rows, printed = make("1")
    assert best(rows) == {("sadtalker", "fid")}
    assert "Hallo is not compared with the other rows: FID:" in printed
    assert reason in printed


def test_slightly_shorter_videos_are_scored_on_the_shared_frames(put, make):
    put("a.json", {"fid": 22.0}, clips=TEN, frames=20, system="sadtalker")
    put("b.json", {"fid": 15.0}, clips=TEN, frames=19, system="hallo")
    _, rows, _ = make("1")
    assert best(rows) == {("hallo", "fid")}
    (row,) = (row for row in rows if row["system"] == "sadtalker" and row["value"])
    assert float(row["shown"]) == pytest.approx(22.0)
    assert row["reason"] == "computed again, of the 10 clips that all compared rows have; its own value is 22.00"


def test_a_failed_self_check_is_never_bold(put, make, tmp_path):  # B3 d
    put("a.json", {"sync_c": 5.0}, clips=TEN, system="sadtalker")
    put("b.json", {"sync_c": 6.0}, clips=TEN, system="anitalker")
    failed = value(
        "sync_c", 9.0, clips=10, expected=10, extra={"self_check": {"found": 1, "videos": 10, "passed": False}}
    )
    put("c.json", {"sync_c": failed}, clips=TEN, system="hallo")
    _, rows, printed = make("1")
    assert best(rows) == {("anitalker", "sync_c")}
    assert "Hallo is not compared with the other rows: Sync-C: the network failed its self-check" in printed


def test_a_difference_within_chance_is_not_bold(put, make, tmp_path):  # B3 e
    put("a.json", {"sync_d": 12.0}, clips=TEN, spread=4.0, system="sadtalker")
    put("b.json", {"sync_d": 12.5}, clips=TEN, spread=4.0, system="hallo")
    _, rows, _ = make("1")
    assert best(rows) == set()
    assert "Sync-D: nothing is bold: " in (tmp_path / "tables" / "table1.md").read_text()


def test_runs_without_a_value_are_counted_and_never_bold(put, make, tmp_path):  # B4
    put("a.json", {"fid": 12.0}, system="sadtalker")
    put("b0.json", {"fid": 10.0}, system="hallo", run=0)
    put("b1.json", {}, not_computed={"fid": "needs weights"}, system="hallo", run=1)
    _, rows, _ = make("1")
    assert best(rows) == set()
    assert shown(tmp_path)["Hallo", "A"][0].startswith("(10.00)")
    assert "1 of 2 runs: no FID of run 1, b1.json" in (tmp_path / "tables" / "table1.md").read_text()


def test_copies_of_one_result_are_one_run(put, make, tmp_path):  # C1
    for run in range(3):
        put(f"run{run}.json", {"fid": 10.0}, made="the same", system="emotivetalk", variant="wo_lip", run=run)
    make("2")
    text = (tmp_path / "tables" / "table2.md").read_text()
    assert "±" not in text
    assert "run1.json (run 1) has the generated videos of run0.json (run 0); they are counted as one run" in text


def test_one_folder_under_two_names_is_noticed(put, make):
    put("a.json", {"fid": 10.0}, made="the same", system="hallo")
    put("b.json", {"fid": 10.0}, made="the same", system="sadtalker")
    assert "sadtalker (b.json) and hallo (a.json) have the same generated videos" in make("1")[2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": -3.0}, "fid is -3, at least 0 is possible"),  # C2
        ({"n": 4}, "fid is of 4 of 3 clips"),
        ({"value": True}, "fid is True"),
        ({"floor": -1.0}, "fid.floor is -1"),
    ],
)
def test_impossible_values_are_refused(put, make, changes, reason):
    path = put("a.json", {"fid": 3.0}, system="hallo")
    content = json.loads(path.read_text())
    content["metrics"]["fid"] |= changes
    path.write_text(json.dumps(content))
    status, rows, printed = make("1")
    assert status == 3
    assert reason in printed
    assert not any(row["value"] for row in rows)


def test_results_of_no_cell_are_listed_with_the_nearest_name(put, make, tmp_path):  # B5
    put("upper.json", {"fid": 10.0}, system="hallo", dataset="HDTF")
    put("hallo.json", {"fid": 10.0}, system="Hallo")
    put("variant.json", {"fid": 10.0}, system="emotivetalk", variant="wo_lips")
    put("mini.json", {"fid": 10.0}, system="hallo", dataset="vox")
    put("wrong.json", {"fid": 10.0}, system="hallo", variant="wo_lip")
    status, _, printed = make("1")
    assert status == 3
    for line in (
        "in no table: upper.json: cell.dataset=HDTF is in no table; did you mean hdtf?",
        "in no table: hallo.json: cell.system=Hallo has a row of its own in Table 1; did you mean hallo?",
        "in no table: variant.json: cell.variant=wo_lips is in no table; did you mean wo_lip?",
        "in no table: mini.json: cell.dataset=vox is in no table; add datasets=[vox]",
        "in no table: wrong.json: no table has variant wo_lip of hallo, only of emotivetalk",
    ):
        assert line in printed
    assert "In no table: upper.json" in (tmp_path / "tables" / "table1.md").read_text()


def test_real_videos_with_other_values_are_reported_whatever_their_number(put, make):  # C5
    put("a.json", {"sync_c": 7.0}, system="hallo")
    truth = {"ground_truth": {"value": 8.1, "n": 2, "expected": 3}}
    put("b.json", {"sync_c": value("sync_c", 6.0, extra=truth)}, system="sadtalker")
    assert "the real videos' Sync-C is 8.1 (n 2) to 8.5 (n 3)" in make("1")[2]


def test_negative_numbers_have_a_minus_sign_in_latex(put, make, tmp_path):  # D
    put("a.json", {"fid": value("fid", 0.2)}, system="hallo")  # its interval begins at -0.3
    make("1")
    assert "$-$0.3 to 0.7" in (tmp_path / "tables" / "table1.tex").read_text()


def test_formulas_in_the_csv_file_are_escaped(put, make, tmp_path):  # D
    put("=a.json", {"fid": 10.0}, system="=cmd()")
    make("1")
    assert "'=cmd()" in (tmp_path / "tables" / "table1.csv").read_text()


def test_a_table_of_everything(put, make, tmp_path):
    """One table with all of this; what it shows and prints is part of the documentation."""
    put("sadtalker.json", {"fid": 22.0, "sync_c": 5.0}, clips=TEN, spread=0.1, system="sadtalker")
    put("anitalker.json", {"fid": 25.0, "sync_c": 5.1}, clips=TEN[1:], expected=10, spread=0.1, system="anitalker")
    put("aniportrait.json", {"fid": 9.0, "sync_c": 5.0}, clips=OTHERS, spread=0.1, system="aniportrait")
    put("hallo.json", {"fid": 8.0, "sync_c": 9.0}, clips=TEN, size=64, spread=0.1, system="hallo")
    put("et0.json", {"fid": 15.0}, not_computed={"sync": "no ffmpeg"}, clips=TEN, spread=0.1, system="emotivetalk")
    put("et1.json", {"fid": 15.1, "sync_c": 8.0}, clips=TEN, spread=0.1, system="emotivetalk", run=1)
    put("upper.json", {"fid": 1.0}, clips=TEN, system="emotivetalk", dataset="HDTF")
    negative = put("negative.json", {"fid": 1.0}, clips=TEN, system="pdfgc", mode="A+V")
    negative.write_text(negative.read_text().replace('"value": 1.0', '"value": -1.0'))
    status, rows, printed = make("1")
    print(printed, (tmp_path / "tables" / "table1.md").read_text())
    assert status == 3
    assert best(rows) == {("emotivetalk", "fid")}
    table = shown(tmp_path)
    assert table["*shared clips*", ""][0] == "n 9"
    assert table["Hallo", "A"][0].startswith("(7.87)")
    assert table["AniPortrait", "A"][0].startswith("(9")
    assert table["EmotiveTalk", "A"][0].startswith("**14.92**")
    assert table["EmotiveTalk", "A"][6].startswith("(7.94)")  # one of two runs has no Sync-C


def test_tables_of_a_dataset_that_nothing_names_are_refused(put, make):
    put("a.json", {"fid": 22.0}, dataset="vox", system="sadtalker")
    make("1", datasets=["vox", "mini"])
    for name, hint in (("voxx", r"did you mean vox\? There are"), ("mars", "There are vox, hdtf,")):
        words = rf"datasets=\[{name}\]: no results file has it; {hint}"
        refuses(ConfigError, words, make, "1", datasets=[name])


def test_further_columns_are_shown_with_their_decimals(put, make, tmp_path):
    put("a.json", {"fid": 22.0, "kid": 0.01234}, system="sadtalker")
    _, rows, _ = make("1", columns=["kid"])
    assert [row["value"] for row in rows if row["metric"] == "kid" and row["value"]] == ["0.01234"]
    assert "0.0123" in [cell.partition(" ")[0] for cell in shown(tmp_path)["SadTalker", "A"]]
    refuses(ConfigError, r"columns=\[kidd\]: no metric has it; did you mean kid\?", make, "1", columns=["kidd"])


def test_a_further_column_has_no_columns_for_the_paper_which_lacks_it(put, make, tmp_path):
    put("a.json", {"fid": 22.0, "kid": 0.01234}, system="sadtalker")
    widths = {}
    for columns in ([], ["kid"]):
        make("1", columns=columns, paper=True)
        folder = tmp_path / "tables"
        head = next(line for line in (folder / "table1.md").read_text().splitlines() if line.startswith("|  | Driven"))
        rule = next(line for line in (folder / "table1.tex").read_text().splitlines() if "{tabular}" in line)
        page = (folder / "table1.html").read_text().partition("</thead>")[0]
        widths[len(columns)] = head.count("|"), rule.count("r", rule.index("{ll")), page.count("<th")
    assert {more - few for few, more in zip(*widths.values(), strict=True)} == {1}


def test_an_ablation_in_a_mode_that_no_table_has_is_listed(put, make):
    put("a.json", {"fid": 22.0}, system="emotivetalk", variant="wo_lip_inference", mode="A+V")
    _, _, printed = make("2")
    reason = "no table has variant wo_lip_inference of emotivetalk in mode A+V, only in A"
    assert f"in no table: a.json: {reason}" in printed
