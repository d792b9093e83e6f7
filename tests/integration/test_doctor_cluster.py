"""`rlsd doctor --cluster` over programs that say what kubectl and helm said."""

import json
import os
import stat
import sys

import pytest
from recorded_cluster import GOLDEN
from typer.testing import CliRunner

from rlsd.cli.app import app

KUBECTL = """#!{python}
import json, sys
facts = json.load(open({golden!r}))["facts"]
words = [x for x in sys.argv[1:] if not x.startswith("--")]
def answer(found):
    if found["reason"] == "NotFound":
        sys.exit("Error from server (NotFound): the server could not find the requested resource")
    print(json.dumps(found["body"]))
if words[:2] == ["config", "view"]:
    if {is_missing}:
        sys.exit("error: current-context must exist in order to minify")
    print(json.dumps({{
        "clusters": [{{"name": "c", "cluster": {{"server": "https://10.0.0.1:6443"}}}}],
        "contexts": [{{"name": "ours", "context": {{"cluster": "c", "namespace": "training"}}}}],
    }}))
elif {is_down}:
    sys.exit("The connection to the server 10.0.0.1:6443 was refused - did you …?")
elif words[:2] == ["get", "secret"]:
    found = facts["secrets"][words[2]]
    if found["reason"]:
        sys.exit('Error from server (NotFound): secrets "x" not found')
    print("\\n".join(found["body"]))
elif words[0] == "get":
    answer(facts["answers"].get(words[1], {{"reason": "NotFound"}}))
elif words[0] == "create" and "subjectaccess" in words[1]:
    print(json.dumps({{"status": {{"allowed": True}}}}))
else:
    sys.exit("Error from server (NotFound): the server could not find the requested resource")
"""
HELM = """#!{python}
import json, sys
if "refused.yaml" in " ".join(sys.argv):
    sys.exit("Error: execution error at (rlsd/templates/rollout.yaml:1:4): template: x: executing "
             "at <fail>: error calling fail: redis.peers is empty\\n\\nUse --debug flag to render")
print("\\n---\\n".join(json.dumps(x) for x in json.load(open({golden!r}))["objects"]))
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Make stand-ins, in a PATH that has nothing else."""

    def make(name="external-redis", *, without=(), is_missing=False, is_down=False):
        golden = str(GOLDEN / f"{name}.json")
        given = {"python": sys.executable, "golden": golden}
        given |= {"is_missing": is_missing, "is_down": is_down}
        for program, text in (("kubectl", KUBECTL), ("helm", HELM)):
            if program not in without:
                path = tmp_path / program
                path.write_text(text.format(**given))
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setenv("COLUMNS", "100")

    return make


def doctor(*arguments):
    return CliRunner().invoke(app, ["doctor", "--cluster", *arguments], catch_exceptions=False)


def test_findings_are_printed_in_groups_and_something_needed_is_exit_code_1(programs):
    programs()
    done = doctor("-f", "values.yaml")
    assert done.exit_code == 1, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "ours at https://10.0.0.1:6443, namespace training"
    headings = [x for x in lines if x and x[0].islower() and " " not in x]
    assert headings == ["values", "access", "namespace", "room", "storage", "network", "images"]
    assert "MISSING  server                         v1.20.2, too old" in lines
    assert (
        "         → kubectl -n training create secret generic hub --from-file=token=FILE" in lines
    )
    assert lines[-1] == "8 needed things are missing"
    assert max(map(len, lines)) <= 100


def test_without_values_the_defaults_are_looked_at_and_that_is_said(programs):
    programs("cpu")
    assert "→ -f VALUES looks at what your run needs" in doctor().stdout


def test_values_that_the_chart_refuses_are_a_finding_in_its_own_words(programs):
    programs()
    done = doctor("-f", "refused.yaml")
    assert done.exit_code == 1
    assert "         → redis.peers is empty\n" in done.stdout
    assert "server" in done.stdout


def test_a_server_that_is_down_is_said_once(programs):
    programs(is_down=True)
    done = doctor("-f", "values.yaml")
    assert done.exit_code == 1
    assert "not reachable: The connection to the server 10.0.0.1:6443 was refused" in done.stdout
    assert "room" not in done.stdout


@pytest.mark.parametrize(
    ("made", "arguments", "says"),
    [
        ({"without": ["kubectl"]}, [], "no `kubectl` on PATH; install it"),
        ({"without": ["helm"]}, [], "no `helm` on PATH; install Helm 3"),
        ({"is_missing": True}, [], "names no cluster; give --kubeconfig or --context"),
        ({"is_missing": True}, ["--context", "x"], "has no context x; give"),
        ({}, ["--kubeconfig", "/nowhere/config"], "--kubeconfig /nowhere/config: no such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(programs, made, arguments, says):
    programs(**made)
    done = doctor(*arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_options_of_a_cluster_without_it_are_wrong_usage():
    done = CliRunner().invoke(app, ["doctor", "--namespace", "training"])
    assert done.exit_code == 2
    assert "belong to --cluster" in done.output


def test_what_a_secret_holds_never_leaves_kubectl(programs, tmp_path):
    """Its keys alone are asked for, by a template that kubectl fills in."""
    programs()
    path = tmp_path / "kubectl"
    log = tmp_path / "log"
    text = path.read_text().replace(
        "import json, sys\n",
        f"import json, sys\nopen({str(log)!r}, 'a').write(repr(sys.argv) + '\\n')\n",
        1,
    )
    path.write_text(text)
    doctor("-f", "values.yaml")
    asked = [line for line in log.read_text().splitlines() if "'secret'" in line]
    assert len(asked) == 2
    assert all("template={{range $key, $_ := .data}}{{println $key}}{{end}}" in x for x in asked)
    assert not [x for x in log.read_text().splitlines() if "/secrets" in x]


def test_the_recorded_cluster_holds_no_path_of_the_machine_that_recorded_it():
    for path in GOLDEN.iterdir():
        assert os.path.expanduser("~/") not in path.read_text()
        assert json.loads(path.read_text())["objects"]
