"""Small, fast, deterministic services behind real gRPC sockets: they stand in for rater, generator and trainer.

Every image has one number, its redness. The rater likes red; an adapter moves redness by what its training set had more
than its base images; so a night on stand-ins learns, and its every digest can be compared.

Run as `python stand_ins.py ROLE --home HOME --port PORT`, like a real role. State is in SQLite and survives `kill -9`.
"""

import argparse
import ctypes
import hashlib
import json
import math
import os
import re
import signal
import sys
import threading
import time
from _thread import start_new_thread
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import stand_in_store
from grpc_status import rpc_status
from stand_in_store import Store, Table, colour, log_call, noise, png

from konomi.errors import FailedPrecondition, to_status
from konomi.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    generator_pb2,
    generator_pb2_grpc,
    rater_pb2,
    rater_pb2_grpc,
    trainer_pb2,
    trainer_pb2_grpc,
)

PAUSE = float(os.environ.get("STAND_IN_SECONDS", "0"))
"""Seconds each image and each training step takes."""

VERSION = "tastes/default/raterVersions/1"


class Artifacts(artifact_pb2_grpc.ArtifactServiceServicer):
    def __init__(self, store: Store) -> None:
        self.store = store

    def PutArtifact(self, request_iterator, context):
        media_type, data = "", b""
        for request in request_iterator:
            if request.HasField("header"):
                media_type = request.header.media_type
            data += request.chunk
        return self.store.put(data, media_type)

    def GetArtifact(self, request, context):
        if not (self.store.folder / request.digest).exists():
            context.abort(grpc.StatusCode.NOT_FOUND, "no such artifact")
        yield artifact_pb2.GetArtifactResponse(chunk=self.store.get(request.digest))


class Generator(generator_pb2_grpc.GeneratorServiceServicer):
    def __init__(self, home: Path, store: Store) -> None:
        self.home, self.store = home, store

    def ListBaseModels(self, request, context):
        models = [generator_pb2.BaseModel(id=name) for name in ("redder", "starter")]
        return generator_pb2.ListBaseModelsResponse(base_models=models, places=int(os.environ.get("PLACES", "1")))

    def InspectModel(self, request, context):
        if (self.home / "no-few-step").exists():
            return generator_pb2.BaseModel(id=request.id, draft={"missing": "Drafts need a few-step adapter."})
        return generator_pb2.BaseModel(id=request.id, draft={"adapter": "lcm.safetensors", "scale": 1})

    def GenerateImages(self, request, context):
        adapters = [json.loads(self.store.get(one.digest)) for one in request.adapters]
        shift = sum(made["shift"] * one.scale for made, one in zip(adapters, request.adapters, strict=True))
        words = [token for made in adapters for token, _ in made.get("words", [])]
        if any(token not in words for one in request.images for token in re.findall("<[^>]+>", one.prompt)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a prompt says a word the model was never taught")
        shift += 0.2 * (request.base_model == "redder")
        who, look = request.unit, round(shift, 3)
        if request.draft:  # a little beside what is drawn in full, and never its bytes
            assert not (request.steps or request.guide_from_base or any(one.draft_digest for one in request.images))
            look, shift = "draft", shift - 0.02
        flat = bool(request.adapters) and "STAND_IN_FLAT" in os.environ  # a unit whose pictures are all alike
        for index, one in enumerate(request.images):
            if (self.home / "hang").exists():
                (self.home / "hang").unlink()
                while not (self.home / "let-go").exists():
                    time.sleep(0.1)
            time.sleep(PAUSE)
            red = noise("red", one.prompt, one.seed) + shift
            if one.init_digest:
                red += (1 - one.strength) * (colour(self.store.get(one.init_digest))[0] / 255 - red)
            image = png(
                max(0, min(255, round(255 * red))),
                64 if flat else round(255 * noise("green", one.prompt, one.seed, look)),
                64 if flat else round(255 * noise("blue", one.prompt, one.seed, look)),
            )
            yield generator_pb2.GeneratedImage(
                index=index, artifact=self.store.put(image, "image/png"), prompt=one.prompt, seed=one.seed
            )
        for one in request.images if any(one.draft_digest for one in request.images) else ():
            log_call(self.home, "redraw", who, one.draft_digest, one.seed)
        log_call(self.home, "draft" if request.draft else "generate", who, request.images[0].seed, len(request.images))


class Rater(rater_pb2_grpc.RaterServiceServicer):
    def __init__(self, home: Path, store: Store) -> None:
        self.home, self.store = home, store
        self.images, self.labels = Table(home, "images"), Table(home, "labels")
        self.selections, self.audits = Table(home, "selections"), Table(home, "audits")

    def CreateTaste(self, request, context):
        return self.GetTaste(request, context)

    def ListTastes(self, request, context):
        return rater_pb2.ListTastesResponse(tastes=[])

    def GetTaste(self, request, context):
        fitted = not (self.home / "no-rater").exists()
        count = len(self.images.items())
        return rater_pb2.Taste(
            name="tastes/default",
            image_count=count,
            active_rater_version=VERSION if fitted else "",
            base_model="starter",
        )

    def GetRaterVersion(self, request, context):
        alarms = ["Over-optimisation: 6.4 nats of selection since a person last audited, more than 6.0; audit a set."]
        spent = [one for _, one in self.selections.items() if one["audits"] == len(self.audits.items())]
        pressure = rater_pb2.Pressure(nats=sum(one["nats"] for one in spent), selections=len(spent))
        return rater_pb2.RaterVersion(name=VERSION, active=True, alarms=alarms, pressure=pressure)

    def RecordBlindAudit(self, request, context):
        self.audits.put(request.request_id, [[p.unit_digest, p.against_digest, p.choice] for p in request.audit.pairs])
        return rater_pb2.BlindAudit(name=f"{request.taste}/blindAudits/{len(self.audits.items())}")

    def AddImages(self, request_iterator, context):
        for request in request_iterator:
            image = request.image
            about = {"unit": image.unit, "prompt": image.prompt, "seed": image.seed, "source": image.source}
            about |= {"parents": list(image.parents), "parameters": dict(image.parameters)}
            new = self.images.put(image.digest, about)
            yield rater_pb2.AddImagesResponse(digest=image.digest, already_known=not new)

    def ListImages(self, request, context):
        grades, wanted = dict(self.labels.items()), request.filter
        images = [
            rater_pb2.Image(
                digest=key,
                prompt=v["prompt"],
                source=v.get("source", rater_pb2.SOURCE_SELF),
                grade=grades.get(key, 0),
                parents=v.get("parents", []),
                parameters=v.get("parameters", {}),
                unit=v["unit"],
            )
            for key, v in self.images.items()
            if (not wanted.grades or grades.get(key) in wanted.grades)
            and (not wanted.sources or v.get("source", rater_pb2.SOURCE_SELF) in wanted.sources)
            and (not wanted.digests or key in wanted.digests)
            and wanted.prompt_contains in v["prompt"]
        ]
        return rater_pb2.ListImagesResponse(images=images[: request.page_size or None], total_size=len(images))

    def SuggestImages(self, request, context):
        graded = dict(self.labels.items())
        free = [key for key, _ in self.images.items() if key not in graded][: request.count]
        return rater_pb2.SuggestImagesResponse(
            suggestions=[rater_pb2.Suggestion(image=rater_pb2.Image(digest=digest), reason=5) for digest in free]
        )

    def RecordLabels(self, request, context):
        for label in request.labels:
            self.labels.replace(label.image_digest, label.grade)
        return rater_pb2.RecordLabelsResponse(labels=request.labels)

    def FitRater(self, request, context):
        if len(self.labels.items()) < 5:  # as the real rater refuses too few
            few = FailedPrecondition("expected at least 5 graded images", reason="TOO_FEW_LABELS")
            context.abort_with_status(rpc_status.to_status(to_status(few)))
        estimate = rater_pb2.Estimate(value=0.6, low=0.4, high=0.8, n=len(self.labels.items()))
        version = rater_pb2.RaterVersion(name=VERSION, label_count=len(self.labels.items()), active=True)
        version.metrics["srcc"].CopyFrom(estimate)
        yield rater_pb2.FitRaterResponse(rater_version=version)

    def redness(self, digest: str) -> float:
        return colour(self.store.get(digest))[0] / 255

    def score(self, digest: str) -> rater_pb2.Score:
        red = self.redness(digest)
        if os.environ.get("STAND_IN_SCORE") == "nan" and red > 0.97:
            return rater_pb2.Score(utility=math.nan, std=math.nan, lower_bound=math.nan, rater_version=VERSION)
        weights = [math.exp(-8 * abs(red - centre)) for centre in (0.1, 0.3, 0.5, 0.7, 0.9)]
        return rater_pb2.Score(
            utility=1 + 4 * red,
            std=0.3,
            lower_bound=0.7 + 4 * red,
            grade_probabilities=[weight / sum(weights) for weight in weights],
            typicality=1,
            rater_version=VERSION,
        )

    def ScoreImages(self, request, context):
        digests = [image.digest for image in request.images]
        reply = rater_pb2.ScoreImagesResponse(
            results=[rater_pb2.ScoreResult(score=self.score(digest)) for digest in digests]
        )
        if request.measure_diversity:
            reply.diversity.CopyFrom(self.diversity(digests))
        return reply

    def diversity(self, digests) -> rater_pb2.Diversity:
        """The effective number of colours, in a 4 x 4 x 4 grid."""
        cells = Counter(tuple(value // 64 for value in colour(self.store.get(digest))) for digest in digests)
        shares = [count / len(digests) for count in cells.values()]
        vendi = math.exp(-sum(share * math.log(share) for share in shares))
        typical = sum(self.redness(digest) < 0.999 for digest in digests) / max(1, len(digests))
        return rater_pb2.Diversity(vendi=vendi, n=len(digests), typical_share=max(typical, 0.95))

    def ListRevocations(self, request, context):
        path = self.home / "revoked.txt"
        gone = path.read_text().split() if path.exists() else []
        return rater_pb2.ListRevocationsResponse(revocations=[rater_pb2.Revocation(digest=digest) for digest in gone])

    def MeasureImages(self, request, context):
        """How much redder the set is than its reference, and how many grid cells of green and blue it reaches."""
        base = [digest for digest, image in self.images.items() if image["unit"] == "base"]
        if not (request.reference or base):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no reference")
        sets = (list(request.digests), list(request.reference) or base)
        near = self.home / "near-liked"  # how near a liked image everything is, where the taste knows
        known = rater_pb2.GradedMeasures(graded_n=50, liked_n=20) if near.exists() else None
        if known is not None:
            known.near_liked = known.typical = float(near.read_text())
        red = [sum(map(self.redness, digests)) / len(digests) for digests in sets]
        cells = [{tuple(v // 128 for v in colour(self.store.get(d))[1:]) for d in digests} for digests in sets]
        return rater_pb2.ImageMeasures(
            n=len(sets[0]),
            reference_n=len(sets[1]),
            kid=rater_pb2.Estimate(value=abs(red[0] - red[1]), low=0, high=1, n=len(sets[0])),
            liked_cells=4,
            likes_covered=len(cells[0]) / 4,
            reference_likes_covered=len(cells[1]) / 4,
            near_copies=len(set(sets[0]) & set(request.training_sources)) / len(sets[0]),
            graded=known,
        )

    def ExploreNovelty(self, request, context):
        """One elite, the reddest, in every grid cell of green and blue that is filled."""
        best: dict[tuple[int, int], str] = {}
        for digest, _ in self.images.items():
            _, green, blue = colour(self.store.get(digest))
            cell = green // 64, blue // 64
            if cell not in best or self.redness(digest) > self.redness(best[cell]):
                best[cell] = digest
        archive = rater_pb2.EliteArchive(cells=16, coverage=len(best) / 16, diversity=self.diversity(best.values()))
        for number, (_, digest) in enumerate(sorted(best.items())):
            image = rater_pb2.Image(digest=digest, prompt=self.images.get(digest)["prompt"], score=self.score(digest))
            archive.elites.add(cell=number, image=image)
            archive.qd_score += self.score(digest).lower_bound - 1
        return rater_pb2.ExploreNoveltyResponse(archive=archive)

    def SelectImages(self, request, context):
        if request.policy == "propagate":
            return stand_in_store.grown(self, request, colour)
        images, grades = self.images.items(), dict(self.labels.items())
        images = [one for one in images if request.candidates.prompt_contains in one[1]["prompt"]]
        ranked = sorted(images, key=lambda item: (-self.redness(item[0]), item[0]))
        admitted = [i for i in ranked if request.policy != "golden" or grades.get(i[0]) == rater_pb2.GRADE_UR]
        chosen = admitted[: request.count]
        rest = [item for item in ranked if item not in chosen]
        free = [item for item in self.images.items() if item not in chosen and item[1]["unit"] == "base"]
        base = sorted(free, key=lambda item: noise(request.seed, item[0]))
        share = request.base_share
        base = base[: round(len(chosen) * share / (1 - share))]
        if (thin := self.home / "thin-base").exists() and (times := int(thin.read_text())):
            thin.write_text(str(times - 1))
            base = base[: len(base) // 2]  # the others do not pass for ordinary
        reply = rater_pb2.SelectImagesResponse(
            considered=len(images),
            kept_share=len(chosen) / len(images),
            pressure_nats=math.log(len(images) / len(chosen)) if chosen else 0,
            rater_version=VERSION,
            diversity=self.diversity([digest for digest, _ in chosen]),
            largest_cell_share=0.1,
            rejections=[rater_pb2.Rejection(digest=digest, reason=4) for digest, _ in rest],
        )
        if chosen and request.policy != "golden":
            spent = {"nats": reply.pressure_nats, "audits": len(self.audits.items()), "purpose": request.purpose}
            self.selections.put(hashlib.sha256("".join(digest for digest, _ in chosen).encode()).hexdigest(), spent)
        for role, items in ((1, chosen), (2, base)):
            for digest, image in items:
                source = image.get("source", rater_pb2.SOURCE_SELF)
                reply.selected.add(digest=digest, prompt=image["prompt"], role=role, weight=1, source=source)
        return reply

    def ReleaseSelections(self, request, context):
        return stand_in_store.released(self.selections, request.purposes)


class Trainer(trainer_pb2_grpc.TrainerServiceServicer):
    def __init__(self, home: Path, store: Store) -> None:
        self.home, self.store = home, store
        self.runs, self.found, self.moves = Table(home, "runs"), Table(home, "models"), Table(home, "moves")

    def CreateTrainingRun(self, request, context):
        name = f"trainingRuns/{request.request_id}"
        made = {
            "manifest": request.manifest_digest,
            "name": request.display_name,
            "steps": request.hyper_parameters.steps,
        }
        if request.concepts:
            made["words"] = stand_in_store.words_of(request)
        elif request.method != trainer_pb2.TRAINING_METHOD_LORA:
            made["method"] = trainer_pb2.TrainingMethod.Name(request.method)
        if request.reports.adapters:
            made["every"] = request.hyper_parameters.checkpoint_steps
        self.runs.put(name, made | {"seed": request.seed, "night": request.night, "parents": list(request.parents)})
        return trainer_pb2.TrainingRun(name=name, state=trainer_pb2.TRAINING_STATE_QUEUED)

    def WatchTrainingRun(self, request, context):
        run = self.runs.get(request.name)
        if run.get("words") and (self.home / "no-words").exists():
            why = artifact_pb2.ItemError(code=3, reason="MODEL_LAYOUT", message="expected a base with cross-attention")
            yield trainer_pb2.TrainingRun(name=request.name, state=trainer_pb2.TRAINING_STATE_FAILED, error=why)
            return
        model = self.model_of(run)
        if self.found.get(model) is None:
            if os.environ.get("STAND_IN_LOSS") == "nan":
                error = artifact_pb2.ItemError(
                    code=9, reason="LOSS_NOT_FINITE", message="the loss was not a number 3 times"
                )
                yield trainer_pb2.TrainingRun(name=request.name, state=trainer_pb2.TRAINING_STATE_FAILED, error=error)
                return
            for step in range(run["steps"]):
                time.sleep(PAUSE)
                state = trainer_pb2.TRAINING_STATE_RUNNING
                yield trainer_pb2.TrainingRun(name=request.name, state=state, step=step, total_steps=run["steps"])
            self.finish(model, run)
        done = trainer_pb2.TRAINING_STATE_SUCCEEDED
        yield trainer_pb2.TrainingRun(name=request.name, state=done, model=model, loss=0.1, step=run["steps"])

    def GetTrainingRun(self, request, context):
        run = self.runs.get(request.name)
        made = self.checkpoints(run) if run.get("every") and self.found.get(self.model_of(run)) else []
        found = [trainer_pb2.TrainingCheckpoint(step=step, adapter_digest=digest) for step, digest in made]
        return trainer_pb2.TrainingRun(name=request.name, step=run["steps"], checkpoints=found)

    def FinishTrainingRun(self, request, context):
        run = self.runs.get(request.name)
        model = self.model_of(run)
        self.found.replace(model, self.found.get(model) | {"adapter": dict(self.checkpoints(run))[request.step]})
        log_call(self.home, "finish", f"{run['name']} at {request.step}")
        return trainer_pb2.TrainingRun(name=request.name, model=model)

    def checkpoints(self, run) -> list[tuple[int, str]]:
        """A fit has learnt nothing in its first quarter, and all it will by half of its steps."""
        whole = json.loads(self.store.get(self.found.get(self.model_of(run))["whole"]))
        found = []
        for step in range(run["every"], run["steps"] + 1, run["every"]):
            content = {**whole, "shift": whole["shift"] * (step > run["steps"] / 4), "step": step}
            digest = self.store.put(json.dumps(content).encode(), "application/vnd.konomi.adapter+safetensors").digest
            found.append((step, digest))
        return found

    def model_of(self, run) -> str:
        return "models/" + hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]

    def finish(self, model: str, run) -> None:
        items = json.loads(self.store.get(run["manifest"]))["items"]
        red = {item["digest"]: colour(self.store.get(item["digest"]))[0] / 255 for item in items}
        chosen = [red[item["digest"]] for item in items if item["role"] == "selected"]
        base = [red[item["digest"]] for item in items if item["role"] == "base"] or [0.5]
        shift = round(0.5 * (sum(chosen) / len(chosen) - sum(base) / len(base)), 6)
        shift = float(os.environ.get("STAND_IN_SHIFT", shift))
        words = {"words": run["words"]} if run.get("words") else {}
        adapter = json.dumps({"shift": shift, "seed": run["seed"], **words}).encode()
        digest = self.store.put(adapter, "application/vnd.konomi.adapter+safetensors").digest
        made = {"adapter": digest, "whole": digest, **{name: run[name] for name in ("name", "night", "manifest")}}
        self.found.put(model, made | words)
        log_call(self.home, "train", run["name"])

    def MergeModels(self, request, context):
        name, record = stand_in_store.merged([self.found.get(one) for one in request.names], request)
        words = [json.loads(self.store.get(self.found.get(one)["adapter"])) for one in request.names]
        adapter = json.dumps({"shift": sum(one["shift"] for one in words), "words": record["words"]}).encode()
        record["adapter"] = self.store.put(adapter, "application/vnd.konomi.adapter+safetensors").digest
        self.found.put(name, record)
        log_call(self.home, "merge", request.display_name)
        return self.message(name)

    def message(self, name: str) -> trainer_pb2.Model:
        model = self.found.get(name)
        return trainer_pb2.Model(
            name=name,
            display_name=model["name"],
            adapter_digest=model["adapter"],
            manifest_digest=model.get("manifest", ""),
            night=model["night"],
            current=self.current() == name,
            concepts=stand_in_store.concepts(model.get("words", [])),
        )

    def current(self) -> str:
        stack: list[str] = []
        for _, move in self.moves.items():
            stack = stack[:-1] if move == "back" else [*stack, move]
        return stack[-1] if stack else ""

    def GetModel(self, request, context):
        return self.message(request.name)

    def ListModels(self, request, context):
        return trainer_pb2.ListModelsResponse(models=[self.message(name) for name, _ in reversed(self.found.items())])

    def PromoteModel(self, request, context):
        self.moves.put(request.request_id, request.name)
        return self.message(request.name)

    def RollbackModel(self, request, context):
        while True:
            before = self.current()
            self.moves.put(f"{request.request_id}{'/' + before if request.to else ''}", "back")
            name = self.current()
            if not request.to or name == request.to or not name:
                break
        return trainer_pb2.RollbackModelResponse(model=self.message(name) if name else None)


def start(role: str, home: Path, port: int = 0) -> tuple[grpc.Server, str]:
    """Starts one stand-in and returns its server and address."""
    server, store = grpc.server(ThreadPoolExecutor(8)), Store(home)
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(Artifacts(store), server)
    if role == "rater":
        rater_pb2_grpc.add_RaterServiceServicer_to_server(Rater(home, store), server)
    elif role == "generator":
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(Generator(home, store), server)
    else:
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(Trainer(home, store), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, f"127.0.0.1:{bound}"


def starter(arguments: list[str]) -> None:
    """Plays the starter's command line: prompts, attributes, and a person who likes red."""
    command, options = arguments[0], dict(zip(arguments[1::2], arguments[2::2], strict=False))
    if command == "prompts":
        return print(json.dumps([f"portrait {i % 7}" for i in range(int(options["--count"]))]))
    if command == "check-person":
        return print(json.dumps({"name": json.loads(Path(options["--person"]).read_text())["name"]}))
    if command == "attributes":
        return print(json.dumps({"colour": ["red", "green"]}))
    store, cuts = Store(Path(options["--home"])), []
    name = json.loads(Path(options["--person"]).read_text())["name"] if "--person" in options else "person-stand-in"
    print(json.dumps({"name": name, "weights": {"colour=red": 1.0}, "noise": 0.0}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        reds = [colour(store.get(digest))[0] / 255 for digest in request["digests"]]
        if request["op"] == "tiers":
            cuts = [sorted(reds)[int(len(reds) * share)] for share in (0.30, 0.60, 0.82, 0.94)]
            answer = {"cuts": cuts}
        else:
            grades = [1 + sum(red > cut for cut in cuts) for red in reds]
            answer = {"grades": grades, "utilities": reds, "realism": 1.0}
        print(json.dumps(answer), flush=True)
    return None


def main(role: str, arguments: list[str]) -> None:
    """Runs a stand-in as the real role's command line does."""
    if role == "starter":
        return starter(arguments)
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    if os.environ.get("KONOMI_PARENT_PID"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: start_new_thread(stopped.set, ()))
    server, address = start(role, options.home, options.port)
    print(json.dumps({"role": role, "address": address}), flush=True)
    stopped.wait()
    server.stop(1).wait()
    return None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
