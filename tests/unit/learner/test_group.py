"""torchrun's group ends with the exit code of its first failed rank."""

import os
import subprocess
import sys

import pytest

from rlsd.local.processes import free_ports

pytestmark = pytest.mark.slow

ENDS = {
    "sys.exit(78 if rank == 1 else 0)": 78,
    "os.kill(os.getpid(), 9) if rank == 1 else time.sleep(30)": 137,
    "sys.exit(0)": 0,
    "os.kill(os.getppid(), 15) if rank == 1 else None; time.sleep(30)": 75,
}


@pytest.mark.parametrize(("program", "code"), ENDS.items())
def test_the_group_ends_as_its_ranks_do(tmp_path, program, code):
    script = tmp_path / "rank.py"
    script.write_text(f"import os, sys, time\nrank = int(os.environ['RANK'])\n{program}\n")
    group = [sys.executable, "-m", "services.learner.group", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*group, str(script)], capture_output=True, text=True, timeout=90, env={**os.environ}
    )
    assert done.returncode == code, done.stderr[-2000:]


def test_over_two_nodes_rank_0_is_on_the_first(tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).write_text(os.environ['NODE'])\n"
    )
    [port] = free_ports(1)
    nodes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "services.learner.group", "--nproc-per-node=1"),
                *("--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={port}"),
                *(f"--node-rank={node}", str(script)),
            ],
            env={**os.environ, "NODE": str(node)},
        )
        for node in (1, 0)
    ]
    assert [node.wait(timeout=90) for node in nodes] == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["0", "1"]
