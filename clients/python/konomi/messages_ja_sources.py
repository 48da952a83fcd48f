"""The Japanese of `konomi sources` and of slates: where images came from, consents, revocation, islands."""

from collections.abc import Mapping

SOURCES: Mapping[str, str] = {
    "Show the ledger: images by source with their weight, consents, what was revoked, and the units it touches.": (
        "出どころの台帳を表示します: 出どころごとの画像と重み、同意、取り消し、影響を受けるユニット。"
    ),
    "Record the consent another person gave to their images; then `konomi import --consent REFERENCE` brings them.": (
        "他の人が自分の画像に与えた同意を記録します。画像は `konomi import --consent REFERENCE` で取り込みます。"
    ),
    "Take images out of a taste for good: all of a consent, or single ones. No later fit sees them.": (
        "画像を好みから完全に取り除きます: ある同意のすべて、または一枚ずつ。以後の学習には一切使われません。"
    ),
    "Says which units were trained on them; the next golden night builds the same set without them.": (
        "それらで学習したユニットも示します。次の golden の夜は、それらを除いた同じ集合で学習します。"
    ),
    "What the consent is called, as images name it.": "同意の名前(画像に記される参照)。",
    "Who gave it.": "同意した人。",
    "Licence it gives, as an SPDX id or free text.": "与えられたライセンス(SPDX 識別子または自由記述)。",
    "The consent that is revoked.": "取り消す同意。",
    "Revoke this image instead, by its digest or first digits; repeatable.": (
        "代わりにこの画像を取り消します(ダイジェスト、または最初の数桁)。繰り返せます。"
    ),
    "Why, for the ledger.": "台帳に残す理由。",
    "Where images came from, on whose word, and taking it back.": "画像の出どころ、同意、その取り消し。",
    "Another person's images: the consent that covers them.": "他の人の画像: それを認める同意。",
    "Images collected elsewhere, without a consent.": "同意のない、よそから集めた画像。",
    "expected --consent or --scraped, not both": "--consent と --scraped はどちらか一方だけにしてください",
    "Grade a slate of the long tail here first.": "まずロングテールの一組をここで採点します。",
    "{islands} islands found, {labels} labels since; {share} of your likes are estimated to be still unseen": (
        "見つかった島は {islands}、その後の採点は {labels} 件。まだ見ていない好みは {share} と見積もられます"
    ),
    "source": "出どころ",
    "images": "画像",
    "weight": "重み",
    "consent": "同意",
    "giver": "同意した人",
    "licence": "ライセンス",
    "recorded": "記録",
    "revoked": "取り消し",
    "{count} images were revoked": "{count} 枚の画像を取り消しました",
    "recorded {reference} by {giver}: {count} images": "{giver} による {reference} を記録しました: 画像 {count} 枚",
    "expected a consent, or images with --image: one of the two": (
        "同意か、--image で画像か、どちらか一方を指定してください"
    ),
    "{name} was trained on {count} revoked images": "{name} は取り消された画像 {count} 枚で学習しました",
    "build without them: konomi night start golden; until then: konomi models rollback": (
        "除いて作り直すには: konomi night start golden。それまでは: konomi models rollback"
    ),
}
