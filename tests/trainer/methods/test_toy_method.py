"""A training method is one file and one entry: a toy one, made here, goes from a request to a model and its export."""

from collections.abc import Mapping

import torch

from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.configuration import Configuration, MethodDefaults
from konomi_trainer.data import dataset
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.tensors import pack, unpack
from konomi_trainer.methods import registry
from konomi_trainer.methods.base import Files, LoadedBase, Method, PreparedMethod, TrainingSource
from konomi_trainer.methods.denoising_loss import DenoisingLoss
from tests.trainer.conftest import Bench

MEDIA_TYPE, NUMBER = "application/vnd.konomi.toy+safetensors", 99


def prepare(base: LoadedBase, source: TrainingSource, configuration: Configuration) -> PreparedMethod:
    """Learns the bias of the UNet's last layer and nothing else."""
    shape = dataset.Shape(((base.resolution, base.resolution),), False)
    data = dataset.build(source.items, source.pixels, base, source.cache, source.tick, shape)
    base.release_encoders()
    base.network.requires_grad_(False)
    weights = {"conv_out.bias": base.network.get_parameter("conv_out.bias").requires_grad_(True)}

    def save(trained: Tensors, record: Mapping[str, str]) -> Files:
        return Files(pack(dict(trained), {"method": record["method"]}))

    return PreparedMethod(weights, DenoisingLoss(base, data, configuration), save, MEDIA_TYPE, {"toys": 1.0})


TOY = Method("toy", NUMBER, prepare, MethodDefaults(learning_rate=0.02, numbers={"steps": 4, "batch_size": 2}))


def test_a_method_is_one_file_and_one_entry(bench: Bench, monkeypatch):
    monkeypatch.setitem(registry.METHODS, TOY.name, TOY)
    request = bench.request(bench.manifest())
    request.method = NUMBER
    request.hyper_parameters.Clear()
    run = bench.finish(bench.client.trainer.create_training_run(request).name)
    assert run.state == pb.TRAINING_STATE_SUCCEEDED, run
    assert (run.total_steps, run.request.hyper_parameters.learning_rate) == (4, 0.02)
    model = bench.client.trainer.get_model(name=run.model)
    assert (model.method, model.metrics["toys"]) == (NUMBER, 1.0)
    exported = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_PEFT)
    assert (exported.digest, exported.media_type) == (model.adapter_digest, MEDIA_TYPE)
    tensors, header = unpack(bench.store.get(exported.digest))
    assert header["method"] == "toy" and set(tensors) == {"conv_out.bias"}
    assert torch.isfinite(tensors["conv_out.bias"]).all() and tensors["conv_out.bias"].abs().sum() > 0
