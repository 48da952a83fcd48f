"""A small program with A1111's API on loopback: the shapes of its answers as recorded, pixels drawn from the seed."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

SHA256 = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"
MODELS = [
    {
        "title": "v1-5-pruned-emaonly.safetensors [6ce0161689]",
        "model_name": "v1-5-pruned-emaonly",
        "hash": "6ce0161689",
        "sha256": SHA256,
        "filename": "C:\\sd\\models\\Stable-diffusion\\v1-5-pruned-emaonly.safetensors",
        "config": None,
    },
    {
        "title": "Anything V3.safetensors",
        "model_name": "Anything V3",
        "hash": None,
        "sha256": None,
        "filename": "/sd/models/Anything V3.safetensors",
        "config": None,
    },
]
SAMPLERS = [
    {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {"scheduler": "karras"}},
    {"name": "Euler a", "aliases": ["k_euler_a", "k_euler_ancestral"], "options": {"uses_ensd": "True"}},
    {"name": "Euler", "aliases": ["k_euler"], "options": {}},
    {"name": "DDIM", "aliases": ["ddim"], "options": {}},
]
SCHEDULERS = [
    {
        "name": name.lower().replace(" ", "_"),
        "label": name,
        "aliases": None,
        "default_rho": -1,
        "need_inner_model": False,
    }
    for name in ("Automatic", "Uniform", "Karras", "SGM Uniform", "Align Your Steps", "DDIM")
]


@dataclass
class WebUI:
    """The program.

    Attributes:
        bodies: path and JSON of every POST.
        answer: what to send instead of images: status and JSON or raw bytes.
        seconds: how long an image takes.
        schedulers: what it lists as its schedule types; empty where it is older than that list.
    """

    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: tuple[int, Any] | None = None
    seconds: float = 0.0
    schedulers: list[dict[str, Any]] = field(default_factory=lambda: SCHEDULERS)
    shift: int = 0
    interrupted: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    @contextmanager
    def running(self) -> Iterator["WebUI"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self.interrupted.set()
            server.shutdown()
            server.server_close()

    def sent(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body in self.bodies if where == path]

    def images(self, body: dict[str, Any], *, from_picture: bool) -> dict[str, Any]:
        """The answer of txt2img and img2img; `info` is JSON inside the JSON."""
        seed = body["seed"] + self.shift
        pixels = np.random.default_rng(seed).integers(0, 256, (body["height"], body["width"], 3), np.uint8)
        if from_picture:
            start = Image.open(io.BytesIO(base64.b64decode(body["init_images"][0])))
            share = body["denoising_strength"]
            pixels = (share * pixels + (1 - share) * np.asarray(start)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        info = {
            "prompt": body["prompt"],
            "all_prompts": [body["prompt"]],
            "negative_prompt": body["negative_prompt"],
            "seed": seed,
            "all_seeds": [seed],
            "subseed": 4015389413,
            "width": body["width"],
            "height": body["height"],
            "sampler_name": body["sampler_name"],
            "cfg_scale": body["cfg_scale"],
            "steps": body["steps"],
            "batch_size": 1,
            "sd_model_name": "v1-5-pruned-emaonly",
            "sd_model_hash": "6ce0161689",
            "infotexts": [f"{body['prompt']}\nSteps: {body['steps']}, Sampler: {body['sampler_name']}, Seed: {seed}"],
            "job_timestamp": "20250101000000",
            "clip_skip": 1,
            "version": "v1.10.1",
        }
        image = base64.b64encode(buffer.getvalue()).decode()
        return {"images": [image], "parameters": body | {"init_images": None}, "info": json.dumps(info)}


def _handler(webui: WebUI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"/sdapi/v1/sd-models": MODELS, "/sdapi/v1/samplers": SAMPLERS}
            if webui.schedulers:
                known["/sdapi/v1/schedulers"] = webui.schedulers
            self.send(200, known[self.path]) if self.path in known else self.send(404, {"detail": "Not Found"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = self.path.removeprefix("/sdapi/v1/")
            webui.bodies.append((path, body))
            if path == "interrupt":
                webui.interrupted.set()
            if path in ("interrupt", "refresh-loras"):
                self.send(200, None)
                return
            until = time.monotonic() + webui.seconds
            while time.monotonic() < until and not webui.interrupted.wait(0.02):
                continue
            self.send(*(webui.answer or (200, webui.images(body, from_picture=path == "img2img"))))

        def send(self, status: int, answer: Any) -> None:
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            if status == 302:
                self.send_header("Location", "http://169.254.169.254/")
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Keeps the test's output clean."""

    return Handler
