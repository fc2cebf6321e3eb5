"""A missing or mistyped experiment lists all experiments, one line each."""

import pytest

from configs.experiments import FOLDER, experiments, require_experiment, why_unknown

THERE = sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.glob("*/*.yaml"))


def test_every_experiment_has_its_own_sentence():
    there = experiments()
    assert sorted(there) == THERE
    assert all(len(line) > 20 and line.endswith(".") and "Cost:" not in line for line in there.values())
    assert len(set(there.values())) == len(there)


@pytest.mark.parametrize("name", THERE)
def test_every_file_states_cost_result_and_command(name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert all(f"# {part}" in text for part in ("Cost:", "Result:", "Command:"))
    assert f"experiment={name}" in text


@pytest.mark.parametrize("typed", [[], ["experiment="], ["data.root=x"], ["experiment=vaid/tiny", "experiment="]])
def test_nothing_to_train_lists_all(typed, capsys):
    with pytest.raises(SystemExit) as left:
        require_experiment(typed)
    assert left.value.code == 2
    message = capsys.readouterr().err
    for name, line in experiments().items():
        assert any(f"experiment={name} " in row and line in row for row in message.splitlines())


@pytest.mark.parametrize(
    "typed", [["experiment=vaid/tiny"], ["experiment=null", "stage=vaid"], ["stage=vaid"], ["--help"]]
)
def test_known_experiments_pass(typed):
    require_experiment(typed)


@pytest.mark.parametrize(
    ("name", "near"),
    [("vaid/tny", "vaid/tiny"), ("etdh/small", "ethd/small"), ("no_decouple", "ethd/no_decouple"), ("xyz", None)],
)
def test_a_typo_suggests_the_nearest_name(name, near):
    message = why_unknown(name).splitlines()[0]
    assert message.startswith(f"error: experiment={name}: there is no such experiment")
    assert (f"did you mean {near}" in message) if near else ("did you mean" not in message)


def test_a_group_lists_its_experiments():
    message = why_unknown("vaid/")
    assert "experiment=vaid/paper " in message
    assert "experiment=ethd/" not in message
