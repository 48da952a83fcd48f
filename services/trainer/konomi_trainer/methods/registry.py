"""Every training method by its name: the one table a new method is entered into."""

from konomi.errors import InvalidArgument
from konomi_trainer.methods import concept_lora, custom_diffusion, lora
from konomi_trainer.methods.base import Method

METHODS: dict[str, Method] = {
    lora.LORA_METHOD.name: lora.LORA_METHOD,
    lora.DORA_METHOD.name: lora.DORA_METHOD,
    lora.LOHA_METHOD.name: lora.LOHA_METHOD,
    lora.LOKR_METHOD.name: lora.LOKR_METHOD,
    custom_diffusion.METHOD.name: custom_diffusion.METHOD,
    concept_lora.METHOD.name: concept_lora.METHOD,
}


def by_number(number: int) -> Method:
    """Returns the method of a value of TrainingMethod.

    Raises:
        InvalidArgument: there is none; the field rules refuse such a request before anything asks here.
    """
    for method in METHODS.values():
        if method.number == number:
            return method
    message = f"expected one of the training methods {', '.join(METHODS)}; number {number} came"
    raise InvalidArgument(message, reason="METHOD", field="method")
