"""Cases from the command line and from CSV files: names, parts, and errors in rows."""

from pathlib import Path

import pytest

from configs.command_line import compose
from configs.errors import ConfigError
from configs.generation import GenerateConfig, GuidanceConfig
from configs.rules import check
from generation.batch import cases_of

AWKWARD = "Müller's (1) #raw! 寒い 100%"
BASE = {"portrait": "face.png", "speech": "voice.wav", "output": "videos", "ethd": "run"}


def cases(*arguments):
    keys = BASE | dict(argument.split("=", 1) for argument in arguments)
    return cases_of(compose("generate", GenerateConfig, typed(keys)))


def typed(keys):
    return [f"{key}={value}" for key, value in keys.items()]


def batch(tmp_path, text, encoding="utf-8"):
    (tmp_path / "cases.csv").write_text(text, encoding)
    return f"batch={tmp_path / 'cases.csv'}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ((), "face_voice.mp4"),
        (("emotion.label=happy", "emotion.level=3"), "face_voice_happy3.mp4"),
        (("emotion.text=don't be sad!", "seed=4"), "face_voice_don-t-be-sad_seed4.mp4"),
        (("emotion.video=a b/smile.mp4", "emotion.strength=1.5"), "face_voice_smile_x1.5.mp4"),
        (("drive=lips",), "face_voice_lips.mp4"),
        (("motion.blinks=0",), "face_voice_blinks0.mp4"),
        (("motion.head=0.5", "motion.blinks=4"), "face_voice_blinks4_head-x0.5.mp4"),
        (("guidance.lips=2",), "face_voice_guided-lips2.mp4"),
        (("guidance.expression=1.5", "guidance.high=0.8"), "face_voice_guided-expression1.5-high0.8.mp4"),
        (("lips.strength=1.2", "drive=lips"), "face_voice_lips_lips-x1.2.mp4"),
    ],
)
def test_the_output_is_named_after_inputs_and_settings(typed, name):
    assert cases(*typed)[0].output == Path("videos") / name


def test_blinks_of_a_row(tmp_path):
    rows = "portrait,speech,motion.blinks\na.png,v.wav,4\nb.png,v.wav,\nc.png,v.wav,61\n"
    with pytest.raises(ConfigError, match=r"line 4: motion\.blinks=61"):
        cases(batch(tmp_path, rows))
    first, second = cases(batch(tmp_path, rows.rpartition("c.png")[0]), "motion.blinks=17.5")
    assert (first.motion.blinks, second.motion.blinks) == (4, 17.5)
    assert second.settings()["motion"] == {"blinks": 17.5}
    assert "motion" not in cases()[0].settings()  # records of before stay valid


def test_long_names_are_shortened_and_stay_distinct():
    case = cases(f"portrait={'ä' * 120}.png", f"speech={'b' * 120}.wav")[0]
    other = cases(f"portrait={'ä' * 120}.png", f"speech={'b' * 119}c.wav")[0]
    assert len(case.output.name.encode()) < 200
    assert case.output != other.output


def test_paths_are_literal():
    case = cases(f"portrait={AWKWARD}.png", "output=out, {x} ${y}.mp4")[0]
    assert case.portrait == Path(f"{AWKWARD}.png")
    assert case.output == Path("out, {x} ${y}.mp4")


def test_empty_cells_take_the_command_lines_values(tmp_path):
    text = (
        "portrait,speech,output,emotion.label,emotion.level,seed,paste_back\n"
        f'"{AWKWARD}, a.png",v.wav,one.mp4,happy,3,7,true\n'
        "b.png,,,,,,\n\n"
    )
    one, two = cases(batch(tmp_path, text), "steps=9", "seed=2")
    assert (one.portrait, one.output) == (tmp_path / f"{AWKWARD}, a.png", Path("videos/one.mp4"))
    assert (one.emotion.label, one.emotion.level, one.seed, one.steps, one.paste_back) == ("happy", 3, 7, 9, True)
    assert (two.portrait, two.speech, two.seed, two.paste_back) == (tmp_path / "b.png", Path("voice.wav"), 2, False)
    assert two.output == Path("videos/b_voice_seed2.mp4")


def test_rows_have_their_own_guidance(tmp_path):
    text = "portrait,guidance.lips,guidance.expression,lips.strength\na.png,2,,1.5\nb.png,,3,\n"
    one, two = cases(batch(tmp_path, text), "guidance.lips=1.2", "guidance.high=0.9")
    assert one.guidance == GuidanceConfig(lips=2.0, high=0.9)
    assert two.guidance == GuidanceConfig(lips=1.2, expression=3.0, high=0.9)
    assert (one.lips.strength, two.lips.strength) == (1.5, 1.0)
    assert one.settings()["guidance"] == {"lips": 2.0, "high": 0.9}
    assert one.settings()["lips"] == {"strength": 1.5}
    assert "lips" not in two.settings()
    assert not {"guidance", "lips"} & cases()[0].settings().keys()  # as in records of earlier versions


def test_an_empty_interval_is_refused():
    with pytest.raises(ConfigError, match=r"guidance\.low=0\.8: expected less than guidance\.high=0\.3"):
        check(compose("generate", GenerateConfig, [*typed(BASE), "guidance.low=0.8", "guidance.high=0.3"]))


def test_parts_split_the_rows(tmp_path):
    typed = batch(tmp_path, "portrait\n" + "".join(f"{number}.png\n" for number in range(10)))
    shares = [[case.portrait for case in cases(typed, f"part={part}/3")] for part in (1, 2, 3)]
    assert sorted(sum(shares, [])) == sorted(tmp_path / f"{number}.png" for number in range(10))
    assert {len(share) for share in shares} == {3, 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("portrait,spech\na.png,b.wav\n", "unknown column 'spech'; did you mean speech"),
        ("portrait,portrait\na.png,b.png\n", "a column name occurs twice"),
        ("portrait,seed\na.png,many\n", r"line 2: seed=many: expected a whole number"),
        ("portrait,paste_back\na.png,perhaps\n", "paste_back=perhaps: expected true or false"),
        ("portrait,drive\na.png,mouth\n", "line 2: drive=mouth: expected one of both, lips, expression"),
        ("portrait\na.png,b.wav\n", "2 cells for 1 columns"),
        ("portrait\n", "has no rows"),
        ("", "has no rows"),
        ("portrait\na.png\na.png\n", "rows 1 and 2 would both write"),
        ("portrait,emotion.label,emotion.text\na.png,happy,smile\n", "line 2: emotion: .* are given together"),
        ("portrait,output\na.png,a.mov\n", r"expected a file that ends in \.mp4"),
        ("portrait,guidance.lips\na.png,11\n", r"line 2: guidance\.lips=11\.0: expected a number from 0 to 10"),
        ("portrait,guidance.lips\na.png,nan\n", r"line 2: guidance\.lips=nan: expected a number from 0 to 10"),
        ("portrait,guidance.expression\na.png,more\n", r"line 2: guidance\.expression=more: expected a number"),
        ("portrait,guidance.low,guidance.high\na.png,0.5,0.5\n", r"line 2: guidance\.low=0\.5: expected less than"),
        ("portrait,lips.strength\na.png,2.5\n", r"line 2: lips\.strength=2\.5: expected a number from 0 to 2"),
    ],
)
def test_an_invalid_row_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        cases(batch(tmp_path, text))


def test_a_file_that_is_not_csv_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read; expected a CSV file in UTF-8"):
        cases(batch(tmp_path, "\xff\xfe\x00", "latin-1"))


def test_a_video_cannot_overwrite_an_input():
    with pytest.raises(ConfigError, match="would overwrite the speech of a video"):
        cases("speech=talk.mp4", "output=talk.mp4")


@pytest.mark.parametrize("output", ["../x.mp4", "{elsewhere}/x.mp4", "inside/../../x.mp4", "link/x.mp4", "linked.mp4"])
def test_a_row_stays_in_the_output_folder_unless_allowed(tmp_path, output):
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    videos.mkdir()
    elsewhere.mkdir()
    (videos / "link").symlink_to(elsewhere)
    (videos / "linked.mp4").symlink_to(elsewhere / "x.mp4")
    output = output.format(elsewhere=elsewhere)
    typed = batch(tmp_path, f"portrait,output\na.png,good.mp4\na.png,{output}\n"), f"output={videos}"
    with pytest.raises(
        ConfigError, match=rf"^row 2: output=.*x?.mp4 is outside of the folder {videos}; .*allow_outside"
    ):
        cases(*typed)
    assert [case.output for case in cases(*typed, "allow_outside=true")] == [videos / "good.mp4", videos / output]


def test_rows_inside_are_accepted(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "videos").symlink_to(tmp_path / "disk")  # the folder itself may be a link
    rows = f"portrait,output\na.png,sub/x.mp4\na.png,sub/../y.mp4\na.png,{tmp_path}/videos/z.mp4\n"
    assert len(cases(batch(tmp_path, rows), f"output={tmp_path / 'videos'}")) == 3


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("x.mp4", "x.MP4"),  # share x.json everywhere
        ("A.mp4", "a.mp4"),
        ("Jos\u00e9.mp4", "Jose\u0301.mp4"),
        ("STRASSE.mp4", "straße.mp4"),
        ("a/x.mp4", "b/../A/x.mp4"),
    ],
)
def test_names_that_are_one_file_on_some_disks_are_refused(tmp_path, one, two):
    text = f"portrait,output\na.png,{one}\nb.png,other.mp4\na.png,{two}\n"
    with pytest.raises(ConfigError, match="^rows 1 and 3 would both write .*one file on some disks; give each its own"):
        cases(batch(tmp_path, text))
