"""What a service refuses, in the reader's language: a service writes English, and names the reason by a code.

In English its own sentence stays, which holds the numbers of the case; in another language the reason's sentence stands
for it. A reason that has none here is told by the kind of error, with the service's words behind it.
"""

from collections.abc import Mapping

import grpc

from konomi.errors import KonomiError
from konomi.i18n.catalogue import N_, SOURCE, language, text

OF_REASON: Mapping[str, str] = {
    "ADAPTER_MISMATCH": N_("These adapters do not fit the base model: give adapters that were trained on it."),
    "ADAPTER_NOT_FOUND": N_("This adapter is not in the home any more."),
    "ALREADY_UNDONE": N_("This was undone already."),
    "ANSWER_OF_ANOTHER": N_("This was said by somebody else; only they and the owner can take it back."),
    "ARTIFACT_COLLECTED": N_("The storage policy has removed these bytes; their record stays."),
    "ARTIFACT_DAMAGED": N_("Stored bytes are damaged: restore them from a backup. All damage: konomi doctor --deep"),
    "ARTIFACT_NOT_FOUND": N_("This file is not in the store any more."),
    "ARTIFACT_REVOKED": N_("These bytes were removed because their consent was revoked."),
    "ARTIFACT_TOO_LARGE": N_("The file is larger than the store takes."),
    "BACKEND_FEATURE": N_("The program that draws the images cannot do this."),
    "BASE_CHANGED": N_("The files of the base model have changed meanwhile: put them back, or start anew."),
    "BUSY": N_("The service is busy; try again in a moment."),
    "CANCELLED": N_("The call was given up."),
    "CHECKPOINT_COLLECTED": N_("The storage policy has removed this adapter."),
    "COMPARISON_NOT_FOUND": N_("This comparison is not on record."),
    "COMPARISON_OF_ANOTHER": N_("This was said by somebody else; only they and the owner can take it back."),
    "CONSENT_REVOKED": N_("The consent for these images was revoked; they cannot be used."),
    "DATABASE_BUSY": N_("The database is busy; try again."),
    "DATABASE_DAMAGED": N_("A database of the home is damaged: stop konomi and restore it from a backup."),
    "DATABASE_TAKEN": N_("Another konomi writes to this home: stop it first."),
    "DEVICE_FAILED": N_("The GPU has failed and the service ends: start konomi up again."),
    "DEVICE_MEMORY": N_("One image of this size does not fit into the memory of the GPU: ask for a smaller one."),
    "DEVICE_MISSING": N_("The GPU that is set is not there: set the device to auto."),
    "DISK_FULL": N_("The disk is full; nothing was stored. Free some space, then try again."),
    "DRAFT_ADAPTER_MISSING": N_("Drafts need a few-step adapter beside this base model, and there is none."),
    "DRAINING": N_("The service is stopping; try again once it runs."),
    "EMBEDDER_CHANGED": N_("The embedder of this taste has changed meanwhile; try again."),
    "EMBEDDER_CHANGING": N_("The embedder of this taste is being changed; wait until that is done."),
    "EMBEDDER_MISSING": N_("The embedder of this taste is not installed here; konomi doctor says how to get it."),
    "EMBEDDER_UNKNOWN": N_("There is no such embedder here; konomi rater embedder lists those there are."),
    "EXTRA_MISSING": N_("A library is missing here; konomi doctor says how to install it."),
    "FIELD_INVALID": N_("A value of the request is out of its range ({field})."),
    "GRADE_MISSING": N_("A grade is missing."),
    "IMAGE_MISSING": N_("This image is not in the taste."),
    "IMAGE_NOT_FOUND": N_("This image is not in the taste."),
    "IMAGE_REVOKED": N_("The consent for this image was revoked; it cannot be used."),
    "IMAGE_TOO_LARGE": N_("The image is too large: shrink it first."),
    "IMAGE_TYPE": N_("This is no kind of image that konomi reads."),
    "IMAGE_UNKNOWN": N_("This image is not in the taste."),
    "IMAGE_UNREADABLE": N_("The image cannot be read: it is damaged, or not whole."),
    "LABEL_NOT_FOUND": N_("This grade is not on record."),
    "LABEL_OF_ANOTHER": N_("This was said by somebody else; only they and the owner can take it back."),
    "LABELLER_DENIED": N_("Only the owner may grade in the owner's name."),
    "MANIFEST_EMPTY": N_("The training set is empty: nothing was selected."),
    "MESSAGE_TOO_LARGE": N_("This is too much at once: send or ask for less."),
    "MODEL_BROKEN": N_("The base model cannot be loaded: its files are damaged or incomplete. Download it again."),
    "MODEL_LAYOUT": N_("konomi cannot run a base model of this kind."),
    "MODEL_MISSING": N_("There is no such base model here; konomi models bases lists those there are."),
    "MODEL_NOT_FOUND": N_("There is no such unit here; konomi models list shows those there are."),
    "MODEL_PARTS": N_("The base model is a transformer alone, and no folder of the home lends it its other parts."),
    "NEVER_CURRENT": N_("This unit was never in use, so there is no going back to it; promote it instead."),
    "NOTHING_TO_ROLL_BACK": N_("The base model is in use: there is nothing to go back to."),
    "NOTHING_TO_UNDO": N_("There is nothing to undo."),
    "NOT_SHOWN": N_("This image was not shown, so it cannot be answered."),
    "NO_IMAGES": N_("There are no images in this taste yet: add some first."),
    "NO_TEXT_TOWER": N_("The embedder of this taste reads no words."),
    "OUT_OF_MEMORY": N_("The memory is too small for this: close other programs, or choose a smaller base model."),
    "PIXELS_COLLECTED": N_("The storage policy has removed the pixels of this image; its record stays."),
    "QUEUE_FULL": N_("Many images wait already; try again in a moment."),
    "RATER_NOT_FITTED": N_("konomi has not learnt from your grades yet: grade about 30 images, then let it learn."),
    "RATER_VERSION_NOT_FOUND": N_("There is no such version of the rater."),
    "REQUEST_ID_REUSED": N_("This was sent before with other contents; send it anew."),
    "RUN_NOT_FOUND": N_("There is no such training run."),
    "SAME_IMAGE": N_("Two different images are needed for a comparison."),
    "SCOPE_DENIED": N_("Your token may not do this."),
    "STORE_READ_ONLY": N_("The disk failed or is read-only; nothing was stored. Check it, then restart konomi."),
    "TASTE_CHANGED": N_("The taste has changed meanwhile; try again."),
    "TASTE_DENIED": N_("Your token is not for this taste."),
    "TASTE_EXISTS": N_("There is a taste of this name already: choose another one."),
    "TASTE_NOT_FOUND": N_("There is no such taste here; adding pictures makes one."),
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


def told(error: KonomiError) -> str:
    """Returns what an error says, in the language in use: a service's English is put into it, all else is already."""
    if not error.served or language() == SOURCE:
        return error.message
    if error.reason in OF_REASON:
        return text(OF_REASON[error.reason], field=error.field or "")
    return text(OF_CODE[error.code], why=error.message)
