"""F7: no parser of foreign bytes falls, hangs for five seconds or takes a gigabyte, whatever a fuzzer feeds it.

`KONOMI_FUZZ_RUNS` inputs for each parser; 80,000 and more, a million in all, before a release.
"""

import os
import re
import subprocess
import sys

import pytest

from tests.chaos.parsers import PARSERS

RUNS = int(os.environ.get("KONOMI_FUZZ_RUNS", "3000"))
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(6 * 3600)]


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_answers_whatever_it_is_fed(name, tmp_path, tell):
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.fuzz", name, str(RUNS), str(tmp_path)], capture_output=True, text=True
    )
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    fallen = [path.name for path in tmp_path.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-", "leak-"))]
    assert done.returncode == 0 and not fallen, f"{done.stderr[-3000:]}\n{fallen}"
    executed, speed = int(stats["number_of_executed_units"]), stats["average_exec_per_sec"]
    assert executed >= RUNS
    tell(f"{name}: {executed} inputs, 0 fell, {speed} a second, {stats['peak_rss_mb']} MiB at most")
