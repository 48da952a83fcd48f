"""`konomi sources list | consent | revoke`: where a taste's images came from, on whose word, and taking it back."""

import uuid
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, say, table
from konomi.client.messages import plain
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.i18n.catalogue import plural, text
from konomi.night.settings import NightSettings
from konomi.taste import consents
from konomi.taste.provenance import whole_digest
from konomi.v1 import rater_pb2 as rater

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="What the consent is called, as images name it.")]


@app.command("list")
def list_(taste: TasteId = "default", as_json: Json = False) -> None:
    """Show the ledger: images by source with their weight, consents, what was revoked, and the units it touches.

    Example: konomi sources list
    """
    with attached() as client:
        ledger = consents.ledger(client, taste_name(taste), _weights())
    if as_json:
        emit(ledger)
        return
    rows = [
        (name, str(source["images"]), str(source["ur"]), f"{source['weight']:g}")
        for name, source in ledger["sources"].items()
    ]
    table(("source", "images", "UR", "weight"), rows)
    if ledger["consents"]:
        columns = ("consent", "giver", "licence", "images", "recorded", "revoked")
        table(
            columns,
            [
                (c["reference"], c["giver"], c["licence"], str(c["images"]), c["recorded"][:10], c["revoked"][:10])
                for c in ledger["consents"]
            ],
        )
    say(_revoked(len(ledger["revocations"]))) if ledger["revocations"] else None
    _flag(ledger["affected"])


@app.command()
def consent(
    reference: Reference,
    giver: Annotated[str, typer.Option(help="Who gave it.")],
    licence: Annotated[str, typer.Option(help="Licence it gives, as an SPDX id or free text.")] = "",
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Record the consent another person gave to their images; then konomi import --consent REFERENCE brings them.

    Example: konomi sources consent mail-2026-11-22 --giver "A. Painter" --licence CC-BY-4.0
    """
    given = rater.Consent(reference=reference, giver=giver, licence=licence)
    with attached() as client:
        entry = client.rater.record_consent(taste=taste_name(taste), consent=given, request_id=str(uuid.uuid4()))
    if as_json:
        emit(plain(entry))
    else:
        line = "recorded {reference} by {giver}: {count} images"
        say(text(line, reference=reference, giver=giver, count=entry.image_count))


@app.command()
def revoke(
    reference: Annotated[str, typer.Argument(metavar="[REFERENCE]", help="The consent that is revoked.")] = "",
    image: Annotated[
        list[str] | None, typer.Option(help="Revoke this image instead, by its digest or first digits; repeatable.")
    ] = None,
    why: Annotated[str, typer.Option(help="Why, for the ledger.")] = "",
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Take images out of a taste for good: all of a consent, or single ones. No later fit sees them.

    Says which units were trained on them; the next golden night builds the same set without them.

    Example: konomi sources revoke mail-2026-11-22 --why "asked by mail"
    """
    if bool(reference) == bool(image):
        raise InvalidArgument(text("expected a consent, or images with --image: one of the two"), field="reference")
    name = taste_name(taste)
    with attached() as client:
        digests = [whole_digest(client, name, digits) for digits in image or ()]
        request_id = str(uuid.uuid4())
        reply = client.rater.revoke_images(
            taste=name, consent=reference, digests=digests, why=why, request_id=request_id
        )
        gone = [revocation.digest for revocation in reply.revocations]
        touched = consents.affected(client, name, gone)
    if as_json:
        emit({"taste": name, "revoked": gone, "affected": touched})
        return
    say(_revoked(len(gone)))
    _flag(touched)


def _weights() -> dict[str, float]:
    settings = NightSettings(home=Home.locate().root)
    return {"consented": settings.consented_weight, "scraped": settings.scraped_weight}


def _flag(affected: list[consents.AffectedModel]) -> None:
    """Says which units were trained on revoked images, and what to do."""
    for model in affected:
        line = "{name} was trained on {count} revoked images"
        mark = " *" if model["current"] else ""
        say(text(line, name=model["display_name"], count=model["images"]) + mark)
    if affected:
        note(text("build without them: konomi night start golden; until then: konomi models rollback"))


def _revoked(count: int) -> str:
    return plural("{count} image was revoked", "{count} images were revoked", count)
