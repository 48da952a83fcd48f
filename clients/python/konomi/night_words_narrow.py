"""What a night says of a set that grows by itself and of taught concepts, in English and Japanese."""

SENTENCES: dict[str, dict[str, str]] = {
    "en": {
        "taught": "unit-{unit} was promoted: it knows the words that were taught ({words}).",
        "target": "The night ended: the set has grown to the {size:.0f} images asked for.",
        "acceptance": "The night ended: only {share:.0%} of the candidates passed the gate, fewer than {floor:.0%}; "
        "the set has {size:.0f} images.",
        "drift": "The night ended: for {runs} turns running the candidates moved away from the originals (mean cosine "
        "{cosine:.2f}); the set has {size:.0f} images.",
        "depth_cap": "The night ended: every image the set grew is {depth:.0f} generations from the originals already; "
        "it has {size:.0f} images.",
        "confirm": "{count:.0f} new images of the set wait for you: grade them; what you grade below SSR leaves the "
        "set before it grows again.",
        "removed": "{count:.0f} images left the set, because you graded them below SSR.",
    },
    "ja": {
        "taught": "unit-{unit} を採用しました。教えた言葉({words})を知っています。",
        "target": "集合が目標の {size:.0f} 枚に達したので終えました。",
        "acceptance": "関門を通った候補が {share:.0%} しかなく、{floor:.0%} に届かないので終えました。"
        "集合は {size:.0f} 枚です。",
        "drift": "{runs} 回続けて候補が元の画像から離れた(平均コサイン {cosine:.2f})ので終えました。"
        "集合は {size:.0f} 枚です。",
        "depth_cap": "育った画像がすべて元の画像から {depth:.0f} 世代離れているので終えました。"
        "集合は {size:.0f} 枚です。",
        "confirm": "集合に加わった {count:.0f} 枚が確認を待っています。採点してください。SSR 未満にした画像は、"
        "次に集合が育つ前に外れます。",
        "removed": "SSR 未満と採点された {count:.0f} 枚を集合から外しました。",
    },
}
"""Language to name of an alarm to its sentence."""
