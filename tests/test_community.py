"""What GitHub and people who join read: workflow, issue forms, citation, security, versions."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.helpers import ROOT

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
# GitHub's documentation, "Syntax for issue forms" and "Syntax for GitHub's form schema".
FORM_KEYS = {"name", "description", "body", "assignees", "labels", "title", "type", "projects"}
ITEM_KEYS = {"type", "id", "attributes", "validations"}
ATTRIBUTES = {
    "markdown": {"value"},
    "input": {"label", "description", "placeholder", "value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "dropdown": {"label", "description", "multiple", "options", "default"},
    "checkboxes": {"label", "description", "options"},
}
# The Citation File Format 1.2.0: required keys and the keys used here.
CFF_REQUIRED = {"cff-version", "message", "title", "authors"}
CFF_KEYS = CFF_REQUIRED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
    "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url",
    "version",
}  # fmt: skip
REFERENCE_REQUIRED = {"authors", "title", "type"}
PERSON_KEYS = {"affiliation", "alias", "email", "family-names", "given-names", "name-particle", "name-suffix", "orcid"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def yaml_of(name: str) -> dict:
    return yaml.safe_load(text_of(name))


@pytest.mark.parametrize("path", [form for form in FORMS if form.name != "config.yml"], ids=lambda path: path.name)
def test_an_issue_form_follows_githubs_schema(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form) <= FORM_KEYS
    assert all(isinstance(form[key], str) and form[key].strip() for key in ("name", "description"))
    assert len(form["description"]) <= 200
    assert all(isinstance(label, str) for label in form.get("labels", []))
    items = [item for item in form["body"] if item["type"] != "markdown"]
    assert items
    for item in form["body"]:
        attributes = item["attributes"]
        assert set(item) <= ITEM_KEYS
        assert set(attributes) <= ATTRIBUTES[item["type"]]
        if item["type"] == "markdown":
            assert set(item) == {"type", "attributes"}
            assert attributes["value"].strip()
            continue
        assert attributes["label"].strip()
        assert re.fullmatch(r"[A-Za-z0-9_-]+", item["id"])
        assert set(item.get("validations", {})) <= {"required"}
        assert all(isinstance(value, bool) for value in item.get("validations", {}).values())
        if item["type"] == "dropdown":
            options = attributes["options"]
            assert options
            assert all(isinstance(option, str) and option.lower() != "none" for option in options)
            assert len(set(options)) == len(options)
        if item["type"] == "checkboxes":
            assert all(set(option) <= {"label", "required"} and option["label"] for option in attributes["options"])
    for key in (lambda item: item["id"], lambda item: item["attributes"]["label"]):
        assert len({key(item) for item in items}) == len(items)


def test_there_are_three_forms_with_names_of_their_own_and_their_configuration():
    assert [path.name for path in FORMS] == ["bug.yml", "config.yml", "feature.yml", "question.yml"]
    names = [yaml.safe_load(path.read_text(encoding="utf-8")).get("name") for path in FORMS]
    assert len(set(names)) == len(names)
    assert yaml_of(".github/ISSUE_TEMPLATE/config.yml") == {"blank_issues_enabled": False}


def test_a_bug_report_asks_for_what_one_needs():
    items = yaml_of(".github/ISSUE_TEMPLATE/bug.yml")["body"]
    required = {item["id"] for item in items if item.get("validations", {}).get("required")}
    assert {"command", "message", "platform", "commit"} <= required
    assert "config" in {item.get("id") for item in items}


@pytest.mark.slow
def test_the_platform_line_it_asks_for_prints_the_versions():
    (platform,) = (item for item in yaml_of(".github/ISSUE_TEMPLATE/bug.yml")["body"] if item.get("id") == "platform")
    (code,) = re.findall(r'`python -c "([^"`]+)"`', platform["attributes"]["description"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{sys.version_info.major}.{sys.version_info.minor}." in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_the_workflow_calls_what_exists_with_pinned_actions():
    workflow = yaml_of(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key "on" as true
    targets = set(re.findall(r"^([a-z][\w -]*):", text_of("Makefile"), re.MULTILINE))
    targets = {target for line in targets for target in line.split()}
    called = set()
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+(\.\d+)*|[0-9a-f]{40})", step["uses"]), step["uses"]
                continue
            for line in step["run"].splitlines():
                program, *arguments = line.split()
                called.add(line)
                if program == "make":
                    assert set(arguments) <= targets
                elif "/" in program:
                    assert (ROOT / program).is_file()
                    assert (ROOT / program).stat().st_mode & 0o111
                else:
                    assert program == "git"
    assert {".ci/run", "make setup", "make test-fast"} <= called
    matrix = workflow["jobs"]["linux"]["strategy"]["matrix"]
    assert matrix["runner"] == ["ubuntu-24.04", "ubuntu-24.04-arm"]
    assert workflow["jobs"]["macos"]["runs-on"].startswith("macos-")
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    lowest = re.fullmatch(r">=(\d+\.\d+)(,.*)?", project["requires-python"])[1]
    assert matrix["python"] == [lowest]


def test_the_citation_file_is_valid_and_names_the_papers_authors():
    citation = yaml_of("CITATION.cff")
    assert CFF_REQUIRED <= set(citation) <= CFF_KEYS
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["authors"] == [{"name": "The EmotiveTalk contributors"}]
    assert isinstance(citation["version"], str)
    paper = citation["preferred-citation"]
    assert set(paper) >= REFERENCE_REQUIRED
    assert paper["type"] == "conference-paper"
    assert paper["conference"]["name"]
    bibtex = dict(re.findall(r"^  (\w+) += \{(.*?)\},?$", text_of("README.md"), re.MULTILINE | re.DOTALL))
    assert all(set(author) <= PERSON_KEYS for author in paper["authors"])
    authors = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert authors == " ".join(bibtex["author"].split()).split(" and ")
    assert paper["title"] == " ".join(bibtex["title"].split())
    assert paper["year"] == int(bibtex["year"])


def test_one_version_in_project_citation_and_changelog():
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version)
    assert yaml_of("CITATION.cff")["version"] == version
    headings = re.findall(r"^## (.+)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d|unreleased)", heading) for heading in headings)
    assert headings[0].startswith(f"[{version}] - ")


def test_the_project_names_no_address_that_does_not_exist():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert "urls" not in project
    assert "Programming Language :: Python :: 3.11" in project["classifiers"]
    for name in ("SECURITY.md", "CONTRIBUTING.md", "CITATION.cff", ".github/PULL_REQUEST_TEMPLATE.md"):
        text = text_of(name)
        assert not re.search(r"[\w.]+@[\w-]+\.\w+", text), f"{name} has a mail address"
        assert set(re.findall(r"https?://([^/\s)]+)", text)) <= {"semver.org"}


def test_the_make_targets_that_contributors_are_shown_exist():
    shown = set(re.findall(r"\bmake ([a-z][\w-]*)", text_of("CONTRIBUTING.md")))
    targets = " ".join(re.findall(r"^([a-z][\w -]*):", text_of("Makefile"), re.MULTILINE)).split()
    assert {"setup", "lint", "test", "test-fast", "docs"} <= shown <= set(targets)
