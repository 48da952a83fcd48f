"""What a service refuses, in the reader's language: a service writes English, and names the reason by a code.

In English its own sentence stays, which holds the numbers of the case, unless it speaks of what only programs know
(calls, fields of messages, digests); in another language the reason's sentence stands for it. A reason that has none
here is told by the kind of error, with the service's words behind it.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache

import grpc
from google.protobuf.descriptor import FileDescriptor

from konomi.errors import KonomiError
from konomi.i18n.catalogue import N_, SOURCE, Translatable, language, text, translatable
from konomi.v1 import artifact_pb2, generator_pb2, rater_pb2, trainer_pb2

OF_REASON: Mapping[str, str] = {
    "ACTOR_FAILED": N_(
        "No actor could be started on the Ray cluster: each of its machines needs konomi with the same home."
    ),
    "ADAPTER_MISMATCH": N_("These adapters do not fit the base model: give adapters that were trained on it."),
    "ADAPTER_NOT_FOUND": N_("This adapter is not in the home any more."),
    "ADAPTER_QUANTIZED": N_(
        "Beside packed weights only a plain LoRA can be used: switch quantization off, or give one."
    ),
    "ALREADY_UNDONE": N_("This was undone already."),
    "ANSWER_OF_ANOTHER": N_("This was said by somebody else; only they and the owner can take it back."),
    "ARTIFACT_COLLECTED": N_("The storage policy has removed these bytes; their record stays."),
    "ARTIFACT_DAMAGED": N_("Stored bytes are damaged: restore them from a backup. All damage: konomi doctor --deep"),
    "ARTIFACT_NOT_FOUND": N_("This file is not in the store any more."),
    "ARTIFACT_REVOKED": N_("These bytes were removed because their consent was revoked."),
    "ARTIFACT_TOO_LARGE": N_("The file is larger than the store takes."),
    "AUDIT_ENDED": N_("This check has ended, so its answers stay as they are: begin another one."),
    "AVOID_UNUSED": N_("A set that grows by itself turns away from nothing: leave avoid out."),
    "BACKEND_FEATURE": N_("The program that draws the images cannot do this."),
    "BASE_CHANGED": N_("The files of the base model have changed meanwhile: put them back, or start anew."),
    "BUSY": N_("The service is busy; try again in a moment."),
    "CANCELLED": N_("The call was given up."),
    "CERTIFICATE_NOT_FOUND": N_("There is no such checked set; konomi rater certify draws one."),
    "CHECKPOINT_COLLECTED": N_("The storage policy has removed this adapter."),
    "CLUSTER_AWAY": N_(
        "No actor of the Ray cluster answers: look at its machines. The same work goes on from what was made."
    ),
    "CLUSTER_MISSING": N_("There is no Ray cluster at the address that is set: start one, or set [scale] address."),
    "CLUSTER_OPEN": N_("The Ray cluster is open to the network: switch its tokens and TLS on, on every machine."),
    "COMPARISON_NOT_FOUND": N_("This comparison is not on record."),
    "COMPARISON_OF_ANOTHER": N_("This was said by somebody else; only they and the owner can take it back."),
    "CONCEPT_UNUSED": N_("None of the chosen images has a caption with the word that is taught."),
    "CONSENT_NOT_FOUND": N_("There is no such consent here; konomi sources list shows those there are."),
    "CONSENT_REVOKED": N_("The consent for these images was revoked; they cannot be used."),
    "CONTRAST": N_(
        "A fit with a contrast needs selected and avoided images, one of lora, dora, loha and lokr, and text encoders "
        "that stay as they are; without one there may be no avoided images."
    ),
    "DATABASE_BUSY": N_("The database is busy; try again."),
    "DATABASE_DAMAGED": N_("A database of the home is damaged: stop konomi and restore it from a backup."),
    "DATABASE_MOVED": N_("The rows of this home were moved to PostgreSQL: set [database] url again."),
    "DATABASE_NOT_EMPTY": N_("Where the rows are to be moved to there are others; put them elsewhere first."),
    "DATABASE_NOT_READY": N_("The rater that writes has not made its database yet: start it first."),
    "DATABASE_STANDBY": N_("The PostgreSQL server follows another one: name that one in [database] url."),
    "DATABASE_TAKEN": N_("Another konomi writes to this home: stop it first."),
    "DATABASE_UNREACHABLE": N_("The database cannot be reached; try again in a moment."),
    "DATABASE_UNSAFE": N_("The PostgreSQL server could lose labels as it is set up now, so nothing is stored."),
    "DATABASE_URL_INVALID": N_(
        "Name the PostgreSQL database in konomi.toml: [database] url, postgresql://USER@HOST/NAME"
    ),
    "DEVICE_FAILED": N_("The GPU has failed and the service ends: start konomi up again."),
    "DEVICE_MEMORY": N_("One image of this size does not fit into the memory of the GPU: ask for a smaller one."),
    "DEVICE_MISSING": N_("The GPU that is set is not there: set the device to auto."),
    "DIGEST_INVALID": N_(
        "This is no picture or file that konomi knows by its number: 64 digits and letters were expected."
    ),
    "DIGEST_MISMATCH": N_("The file changed on its way; send it again."),
    "DISK_FULL": N_("The disk is full; nothing was stored. Free some space, then try again."),
    "DRAFT_ADAPTER_MISSING": N_("Drafts need a few-step adapter beside this base model, and there is none."),
    "DRAINING": N_("The service is stopping; try again once it runs."),
    "EMBEDDER_CHANGED": N_("The embedder of this taste has changed meanwhile; try again."),
    "FAVOURITES_FULL": N_("There is room for 5000 favourites; take some off first."),
    "EMBEDDER_CHANGING": N_("The embedder of this taste is being changed; wait until that is done."),
    "EMBEDDER_DIFFERS": N_(
        "A machine of the cluster has another embedder of this name: copy the folder models of the home there."
    ),
    "EMBEDDER_MISSING": N_("The embedder of this taste is not installed here; konomi doctor says how to get it."),
    "EMBEDDER_UNKNOWN": N_("There is no such embedder here; konomi rater embedder lists those there are."),
    "EXTRA_MISSING": N_("A library is missing here; konomi doctor says how to install it."),
    "FIELD_INVALID": N_("This cannot be used as it is: {field}."),
    "GRADE_MISSING": N_("A grade is missing."),
    "GRADE_TIME_DENIED": N_("Only the owner may say when a grade was given."),
    "GUIDANCE": N_("This base model was distilled: the guidance by the base alone is not for it."),
    "HEAD_MISSING": N_("What konomi learnt is not in the home any more: let it learn again with konomi rater fit."),
    "IMAGES_UNREADABLE": N_(
        "Some images of the taste cannot be read, so the embedder stays as it was: import them again."
    ),
    "IMAGE_MISSING": N_("This image is not in the taste."),
    "IMAGE_NOT_FOUND": N_("This image is not in the taste."),
    "IMAGE_REVOKED": N_("The consent for this image was revoked; it cannot be used."),
    "IMAGE_TOO_LARGE": N_("The image is too large: shrink it first."),
    "IMAGE_TYPE": N_("This is no kind of image that konomi reads."),
    "IMAGE_UNKNOWN": N_("This image is not in the taste."),
    "IMAGE_UNREADABLE": N_("The image cannot be read: it is damaged, or not whole."),
    "LABELLER_DENIED": N_("Only the owner may grade in the owner's name."),
    "LABEL_NOT_FOUND": N_("This grade is not on record."),
    "LABEL_OF_ANOTHER": N_("This was said by somebody else; only they and the owner can take it back."),
    "MALFORMED": N_(
        "The page, or the program that asks, is of another version of konomi: load it again, or update it."
    ),
    "MANIFEST_EMPTY": N_("The training set is empty: nothing was selected."),
    "MEMBER_TWICE": N_("Some images are named twice: name each once."),
    "MESSAGE_MISSING": N_(
        "The page, or the program that asks, is of another version of konomi: load it again, or update it."
    ),
    "MESSAGE_TOO_LARGE": N_("This is too much at once: send or ask for less."),
    "METHOD_NOT_MERGED": N_("Only models that were taught words can be merged like this; one of these was not."),
    "MODEL_BROKEN": N_("The base model cannot be loaded: its files are damaged or incomplete. Download it again."),
    "MODEL_DIFFERS": N_(
        "A machine of the cluster has another base model of this name: copy the folder models of the home there."
    ),
    "MODEL_LAYOUT": N_("konomi cannot run a base model of this kind."),
    "MODEL_MISSING": N_("There is no such base model here; konomi models bases lists those there are."),
    "MODEL_NOT_FOUND": N_("There is no such unit here; konomi models list shows those there are."),
    "MODEL_PARTS": N_("The base model is a transformer alone, and no folder of the home lends it its other parts."),
    "NEVER_CURRENT": N_("This unit was never in use, so there is no going back to it; promote it instead."),
    "NOTHING_TO_ROLL_BACK": N_("The base model is in use: there is nothing to go back to."),
    "NOTHING_TO_UNDO": N_("There is nothing to undo."),
    "NOT_CERTIFIED": N_("This checked set vouches for nothing so far: finish its check first."),
    "NOT_SHOWN": N_("This image was not shown, so it cannot be answered."),
    "NO_IMAGES": N_("There are no images in this taste yet: add some first."),
    "NO_TEXT_TOWER": N_("The embedder of this taste reads no words."),
    "OUT_OF_MEMORY": N_("The memory is too small for this: close other programs, or choose a smaller base model."),
    "PIXELS_COLLECTED": N_("The storage policy has removed the pixels of this image; its record stays."),
    "POPULATION_EXISTS": N_("There are ratings of this name already: konomi population remove takes them away first."),
    "POPULATION_NOT_FOUND": N_("There are no such ratings here; konomi population list shows those there are."),
    "QUANTIZATION_UNAVAILABLE": N_("Packed weights need bitsandbytes: pip install 'konomi[quantized]', or set none."),
    "QUEUE_FULL": N_("Many images wait already; try again in a moment."),
    "READ_ONLY_REPLICA": N_("This rater only answers: grades and changes go to the rater that writes."),
    "RANK_LOST": N_("A process of the training has ended. Start it again: it goes on from its newest checkpoint."),
    "RATER_NOT_FITTED": N_("konomi has not learnt from your grades yet: grade about 30 images, then let it learn."),
    "RATER_VERSION_NOT_FOUND": N_("There is no such version of the rater."),
    "RATINGS_UNPAIRED": N_("The ratings name images that were not sent: import the images first."),
    "REQUEST_ID_REUSED": N_("This was sent before with other contents; send it anew."),
    "REVOKE_WHAT": N_("Name a consent, or images, to revoke: one of the two."),
    "RUN_NOT_FOUND": N_("There is no such training run."),
    "SAME_IMAGE": N_("Two different images are needed for a comparison."),
    "SCOPE_DENIED": N_("Your token may not do this."),
    "STAGES_INVALID": N_("The sizes of the check were expected to grow, up to the whole set."),
    "STORE_BUCKET": N_(
        "The bucket of the store does not exist: make it, or name another under [store] in konomi.toml."
    ),
    "STORE_CLOCK": N_("The clock of the machine is wrong by more than the bucket's server allows: set it."),
    "STORE_CREDENTIALS": N_(
        "The bucket's server does not know the credentials: set those of the environment anew, then restart."
    ),
    "STORE_ELSEWHERE": N_(
        "The pictures lie on another machine, which decides itself what may go; nothing was removed."
    ),
    "STORE_NOT_SHARED": N_("The machines of the Ray cluster have no store in common: name a bucket, [store] url."),
    "STORE_PERMISSION": N_(
        "The bucket's server denies access: the credentials lack a right to read, store or list there."
    ),
    "STORE_READ_ONLY": N_("The disk failed or is read-only; nothing was stored. Check it, then restart konomi."),
    "STORE_REFUSED": N_("The bucket's server could not do it this time; try again later."),
    "STORE_REGION": N_("The bucket is in another region: set region under [store] in konomi.toml."),
    "STORE_UNREACHABLE": N_(
        "The bucket's server cannot be reached: check the network, and endpoint under [store] in konomi.toml."
    ),
    "TASTE_CHANGED": N_("The taste has changed meanwhile; try again."),
    "TASTE_DENIED": N_("Your token is not for this taste."),
    "TASTE_EXISTS": N_("There is a taste of this name already: choose another one."),
    "TASTE_NOT_FOUND": N_("There is no such taste here; adding pictures makes one."),
    "TASTE_REQUIRED": N_("The name of the taste is missing."),
    "TEXT_MISSING": N_("Words to search for are missing."),
    "TEXT_TOO_LONG": N_("The text is longer than the embedder of this taste reads: use fewer words."),
    "TOKEN_CHANGED": N_("Your token has just changed; try again."),
    "TOKEN_MISSING": N_("This needs a token."),
    "TOKEN_UNKNOWN": N_("The token is not known here."),
    "TOO_FEW_LABELS": N_(
        "Too little is graded to learn from: grade at least 5 images, not all alike, or compare 10 pairs. Where only "
        "favourites are graded, add images that are not graded."
    ),
    "UNDO_OF_UNDO": N_("This was itself an undo: give the grade again instead."),
    "UNSAFE_FORMAT": N_("The file was refused because opening it is not safe: only safetensors files are read."),
    "VERSIONS_DIFFER": N_(
        "A machine of the cluster has other versions of konomi or its libraries: install those of the service there."
    ),
}
"""Reason of a refusal to its sentence: what is the matter, and what to do."""

OF_CODE: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.INVALID_ARGUMENT: N_("The service does not take this: {why}"),
    grpc.StatusCode.UNAUTHENTICATED: N_("The service does not know who asks: {why}"),
    grpc.StatusCode.PERMISSION_DENIED: N_("This is not allowed: {why}"),
    grpc.StatusCode.NOT_FOUND: N_("There is no such thing here: {why}"),
    grpc.StatusCode.ALREADY_EXISTS: N_("It is there already: {why}"),
    grpc.StatusCode.ABORTED: N_("It has changed meanwhile; try again: {why}"),
    grpc.StatusCode.FAILED_PRECONDITION: N_("Something has to be put right first: {why}"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: N_("There is no room for this now: {why}"),
    grpc.StatusCode.DEADLINE_EXCEEDED: N_("The service took too long: {why}"),
    grpc.StatusCode.CANCELLED: N_("The call was given up: {why}"),
    grpc.StatusCode.UNAVAILABLE: N_("The service cannot be reached; try again: {why}"),
    grpc.StatusCode.UNIMPLEMENTED: N_("The service cannot do this: {why}"),
    grpc.StatusCode.DATA_LOSS: N_("Stored bytes are damaged: {why}"),
    grpc.StatusCode.INTERNAL: N_("The service met a fault of its own: {why}"),
}
"""Kind of error to the sentence of a reason that has none; `why` is what the service said."""


FIELDS: Mapping[str, str] = {
    "base_model": N_("the base model"),
    "count": N_("how many"),
    "digest": N_("the picture or file"),
    "display_name": N_("the name shown"),
    "embedder": N_("the embedder"),
    "images": N_("the images"),
    "labels": N_("the grades"),
    "name": N_("the name"),
    "negative_prompt": N_("the negative prompt"),
    "page_size": N_("how many at once"),
    "prompt": N_("the prompt"),
    "query": N_("the words to search for"),
    "seed": N_("the seed"),
    "steps": N_("the steps"),
    "taste": N_("the name of the taste"),
    "taste_id": N_("the name of the taste"),
    "text": N_("the words"),
}
"""Last part of a field's path to words for it; any other is told by its own, without the marks of a program."""

NAME_OF_TASTE = N_("the name of the taste, which has 1 to 40 lower-case letters, digits and hyphens")
TASTE_PATTERN = '"tastes/{id}"'
"""How a service says that a taste's name was expected, whatever the field is called."""

TASTE = re.compile(r"\b(no )?tastes/([a-z0-9-]+)")


def told(error: KonomiError) -> str:
    """Returns what an error says, in the language in use: a service's English is put into it, all else is already."""
    return str(retellable(error))


def retellable(error: KonomiError) -> str | Translatable:
    """Returns the same as a sentence that can be told again in another language, where it is one of the catalogue."""
    if not error.served:
        return error.message
    if error.reason == "FIELD_INVALID":
        return _of_field(error)
    own = TASTE.sub(lambda named: f"{named[1] or 'the '}taste {named[2]}", error.message)
    if language() == SOURCE and not names_calls(own):
        return own
    if error.reason in OF_REASON:
        return translatable(OF_REASON[error.reason])
    return own if language() == SOURCE else translatable(OF_CODE[error.code], why=own)


def _of_field(error: KonomiError) -> str | Translatable:
    """Returns what is wrong with a field, under words for it; in another language without the service's English."""
    path = error.field or ""
    field = re.sub(r"\[\d+\]", "", path).rpartition(".")[2]
    words = text(FIELDS[field]) if field in FIELDS else field.replace("_", " ")
    wrong = error.message.removeprefix(f"{path}: ")
    if TASTE_PATTERN in wrong:
        words = text(NAME_OF_TASTE)
    if language() == SOURCE and not names_calls(wrong):
        return f"{words}: {wrong}"
    return translatable(OF_REASON["FIELD_INVALID"], field=words)


def names_calls(sentence: str) -> bool:
    """Says whether a sentence speaks of what only programs know: calls, fields, digests, the names of resources."""
    return bool(_of_programs().search(sentence))


@cache
def _of_programs() -> re.Pattern[str]:
    contracts = (artifact_pb2, generator_pb2, rater_pb2, trainer_pb2)
    names = {name for contract in contracts for name in _names(contract.DESCRIPTOR)}
    words = (
        r"rpc",
        r"digests?",
        r"artifacts?",
        r"manifest",
        r"payload",
        r"metadata",
        r"[A-Z]{2,}_[A-Z_]+",
        *sorted(names),
    )
    return re.compile(rf"\b({'|'.join(words)})\b|\{{id\}}|\b[a-z]+\[\d+\]")


def _names(contract: FileDescriptor) -> Iterator[str]:
    """Yields the calls of a contract, and the fields of its messages whose names are no English words."""
    for service in contract.services_by_name.values():
        yield service.name
        yield from (call.name for call in service.methods)
    for message in contract.message_types_by_name.values():
        for one in (message, *message.nested_types):
            yield from (field.name for field in one.fields if "_" in field.name)
