"""clip-server 0.8.3 (jina) as a peer of ScoreImages: its flow and its client, run where it is installed.

Run by that interpreter: `peer_clip_server.py WEIGHTS.safetensors IMAGES THREADS`. It fetches its weights from a public
bucket; here the seeded ViT-B/32 of the other servers is put in their place. A line on standard input, a JSON list of
file names and the batch size, is answered by a line with the seconds it took. Installed apart from konomi by
`python -m venv build/peers/clip-server` and `build/peers/clip-server/bin/pip install clip-server==0.8.3
clip-client==0.8.3 "setuptools<81"`; without it the row is left out.
"""

import json
import os
import sys
import time
from pathlib import Path

NAME = "ViT-B-32::laion2b_e16"
READY_MS = 300_000


def main(weights: str, folder: str, threads: str) -> None:
    """Serves and measures until standard input ends."""
    said = os.dup(1)
    os.dup2(2, 1)  # its banners and progress bars are not ours
    os.environ |= {"OMP_NUM_THREADS": threads, "JINA_OPTOUT_TELEMETRY": "1", "KONOMI_PEER_WEIGHTS": weights}
    from clip_client import Client
    from jina import Flow

    executor = {"jtype": "SeededEncoder", "metas": {"py_modules": [str(Path(__file__).resolve())]}}
    with Flow(host="127.0.0.1").add(uses=executor, uses_with={"name": NAME}, timeout_ready=READY_MS) as flow:
        client = Client(f"grpc://127.0.0.1:{flow.port}")
        os.write(said, b"{}\n")
        for line in sys.stdin:
            names, batch = json.loads(line)
            images = [(Path(folder) / name).read_bytes() for name in names]
            os.write(said, (json.dumps({"seconds": _embed(client, images, batch)}) + "\n").encode())


def _embed(client, images, batch) -> float:  # type: ignore[no-untyped-def]  # its types live in another environment
    from docarray import Document

    began = time.monotonic()
    found = client.encode([Document(blob=image) for image in images], batch_size=batch)
    assert found[:, "embedding"] is not None and len(found) == len(images)
    return time.monotonic() - began


def _seeded(path: str, map_location: str = "cpu") -> dict:  # type: ignore[type-arg]
    """Reads float32 safetensors; that environment has no library for it."""
    import torch

    data = Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        kind = {"F32": torch.float32, "I64": torch.int64}[entry["dtype"]]
        found[name] = torch.frombuffer(bytearray(data[start:end]), dtype=kind).reshape(entry["shape"])
    return found


if __name__ == "__main__":
    main(*sys.argv[1:4])
else:
    import clip_server.model.model as model
    import clip_server.model.openclip_model as openclip_model
    from clip_server.executors.clip_torch import CLIPEncoder

    openclip_model.download_model = lambda url, md5sum=None: os.environ["KONOMI_PEER_WEIGHTS"]
    model.load_state_dict = _seeded

    class SeededEncoder(CLIPEncoder):  # type: ignore[misc]
        """The encoder itself, with the seeded weights."""
