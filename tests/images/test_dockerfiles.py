"""What is known of the images without building them: their files are linted, bills of them made."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.image_layout import write_image

pytestmark = pytest.mark.chart  # its environment has the linter and Syft

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "deploy/docker").glob("*.Dockerfile"))
SERVICES = ("rollout", "verifier", "teacher", "learner")


def test_the_linter_finds_nothing_in_the_dockerfiles():
    linter = Path(sys.executable).with_name("hadolint")
    assert linter.exists(), "no hadolint; run `make setup-chart`"
    done = subprocess.run([linter, *DOCKERFILES], capture_output=True, text=True, check=False)
    assert (len(DOCKERFILES), done.stdout, done.returncode) == (len(SERVICES), "", 0)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_every_stage_is_built_on_the_one_base_that_can_be_pinned(path):
    text = path.read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE_IMAGE}"] * 2
    assert "LABEL org.opencontainers.image.base.name=${BASE_IMAGE}" in text


def test_what_a_build_copies_is_not_kept_from_it():
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    given = {line[1:] for line in patterns if line.startswith("!")}
    for path in DOCKERFILES:
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.MULTILINE):
            for source in line.split():
                assert (ROOT / source).exists(), f"{path.name}: {source}"
                above = {str(x) for x in (Path(source), *Path(source).parents)}
                assert above & given, f"{path.name}: {source} is ignored"


@pytest.mark.timeout(240)
def test_the_bill_of_an_image_names_what_pip_and_the_base_have_put_into_it(tmp_path):
    package = "opt/rlsd/lib/python3.11/site-packages/widget-1.2.3.dist-info"
    base = "Package: libthing1\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4.5-6\n"
    files = {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": base + "Maintainer: nobody\nDescription: a thing\n",
        f"{package}/METADATA": "Metadata-Version: 2.1\nName: widget\nVersion: 1.2.3\n",
        f"{package}/RECORD": "widget.py,,\n",
    }
    for service in SERVICES:
        write_image(tmp_path / f"rlsd-{service}", files)
    environment = Path(sys.executable).parents[1]
    subprocess.run(
        [
            *("make", "sbom", f"CHART={environment}", f"--assume-old={environment}/bin/helm"),
            *(f"SBOM_OF=oci-dir:{tmp_path}/", "IMAGES=", f"SBOMS={tmp_path}/sbom"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for service in SERVICES:
        bill = json.loads((tmp_path / f"sbom/rlsd-{service}.spdx.json").read_text())
        assert bill["spdxVersion"] == "SPDX-2.3"
        found = {(x["name"], x.get("versionInfo")) for x in bill["packages"]}
        assert {("widget", "1.2.3"), ("libthing1", "4.5-6")} <= found
