"""Words beside a LoRA: one embedding row per concept and text encoder, and low-rank changes of attention.

Textual inversion (Gal et al. 2022, 2208.01618) with a LoRA (Hu et al. 2021): what binds concepts where text and image
meet in one attention, which has no counterpart of the keys and values Custom Diffusion changes. Set, framings, loss and
regularisation images are those of Custom Diffusion; a row starts from the mean of its class word's rows.
"""

from collections.abc import Mapping

from konomi_chassis.models.concept_format import MEDIA_TYPE
from konomi_trainer.configuration import Configuration, MethodDefaults
from konomi_trainer.data import conditions
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.tensors import unpack
from konomi_trainer.methods import concept_file, concept_set, lora, token_rows, word_lora
from konomi_trainer.methods.base import Files, LoadedBase, Method, PreparedMethod, TrainingSource
from konomi_trainer.methods.concepts import check_captions, from_rows
from konomi_trainer.methods.custom_diffusion import ConceptLoss, chosen, figures_of


def prepare(base: LoadedBase, source: TrainingSource, configuration: Configuration) -> PreparedMethod:
    """Encodes the set, adds the words and the adapter and returns what is trained."""
    bound = from_rows(configuration.concepts)
    check_captions(bound, source.items)
    targets, priors = chosen(source.items, configuration.prior_weight)
    data = concept_set.build(targets, priors, base, source, configuration.scale_augmentation)
    base.release_image_encoder()
    rows = token_rows.bind(base.word_towers(), bound, token_rows.mean_row)
    networks = {base.family.network: base.network}
    adapter = lora.attach(networks, lora.LORA, configuration.rank, configuration.seed, base.family.targets)
    base.settle()
    named = {
        f"{prefix}{token}": row
        for token, parameters in rows.items()
        for prefix, row in zip(concept_file.PREFIXES, parameters, strict=False)
    }

    def save(trained: Tensors, record: Mapping[str, str]) -> Files:
        changed = {name: trained[name] for name in adapter}
        plain = lora.LORA.files(networks, changed, configuration.rank, record, base.family.targets).adapter
        tensors, header = unpack(plain)
        model = word_lora.WordLora(
            bound,
            tensors,
            {
                concept.token: tuple(
                    trained[name].float().cpu() for name in named if name.endswith(f".{concept.token}")
                )
                for concept in bound
            },
            record.get("base_model", ""),
            record.get("base_digest", ""),
            word_lora.metadata_of(header),
            record,
        )
        return Files(word_lora.to_bytes(model))

    figures = figures_of(targets, priors, bound)
    figures |= conditions.figures_of(data.prior.texts.cut if data.prior else 0)
    return PreparedMethod({**adapter, **named}, ConceptLoss(base, data, configuration), save, MEDIA_TYPE, figures)


METHOD = Method(
    "concept_lora",
    6,
    prepare,
    MethodDefaults(
        numbers={"steps": 250, "batch_size": 8, "caption_dropout": 0.0, "checkpoint_steps": 50},
        starter_numbers={"scale_augmentation": False},
        large_numbers={"batch_size": 4, "gradient_accumulation": 2},
    ),
    read_words=word_lora.from_bytes,
)
