"""How many threads the rater's libraries take: the embedder and FAISS as many as are set, numpy one."""

import json
import subprocess
import sys

import pytest

LOOK = """
import json
from konomi_rater.__main__ import limit_threads
limit_threads(3)
from threadpoolctl import threadpool_info
print(json.dumps([[found["prefix"], found["num_threads"]] for found in threadpool_info()]))
"""


@pytest.mark.slow
def test_numpy_computes_on_one_thread_and_faiss_and_torch_on_as_many_as_are_set() -> None:
    found = json.loads(subprocess.check_output([sys.executable, "-c", LOOK], text=True))
    assert {count for prefix, count in found if prefix == "libscipy_openblas"} == {1}
    assert {count for prefix, count in found if prefix in ("libgomp", "libopenblas")} == {3}
