"""What one GPU should measure in ten minutes: konomi beside raw libraries, precisions, memory; rehearsed on a CPU.

    python tests/benchmarks/device_check.py [--out DIR] [--budget 520] [--sections a,b]
    python tests/benchmarks/device_check.py --rehearse [--divisor 16]

The sections lie in `device/`, in this order by their table in `device/command.py`. Each has an estimate and a deadline
of its own, begins only if its estimate fits what is left of the budget, and appends its rows to DIR/rows.jsonl at
once: a run that is killed keeps what it had. A table is printed last. Late, it leaves out compiling, then SDXL at batch
8, then the rater's PNGs. A rehearsal runs the same lines on small models on a CPU, where only failures mean something.

It runs on a machine without konomi: this file finds the tree itself. There must be Python 3.12 with torch,
torchvision, transformers, accelerate, peft, timm, scikit-learn, scipy, grpcio, protobuf and pillow, and from wheels
diffusers, open_clip_torch, ftfy, sqlalchemy, pysqlite3, apsw, pydantic-settings, structlog, cachetools, fsspec,
threadpoolctl, opentelemetry (api, sdk, exporter-otlp-proto-grpc), grpcio-status, -health-checking and -reflection,
and picklescan. faiss may be missing: the row that needs it says so. The stubs clients/python/konomi/v1/*_pb2*
are git-ignored and must travel with the tree.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
}
"""Read by libraries as they are imported; no hub is ever asked."""


def find_the_tree() -> None:
    """Puts the tree's packages on the path, of this process and of those it starts, and this folder's off it."""
    places = [ROOT, ROOT / "clients" / "python", *sorted((ROOT / "services").iterdir())]
    sys.path[:] = [*map(str, places), *(place for place in sys.path if place != str(ROOT / "tests" / "benchmarks"))]
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, places), *filter(None, [os.environ.get("PYTHONPATH")])])


if __name__ == "__main__":
    find_the_tree()
    os.environ |= ENVIRONMENT
    from tests.benchmarks.device.command import main

    sys.exit(main(sys.argv[1:]))
