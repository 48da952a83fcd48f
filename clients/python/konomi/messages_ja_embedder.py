"""The Japanese of `konomi rater embedder`, of its advice and of the elites, by their English."""

from collections.abc import Mapping

EMBEDDER: Mapping[str, str] = {
    "the starter embedder knows only starter portraits, and {share:.0%} of this taste's own images are others": (
        "スターターの埋め込みはスターターの肖像しか知りませんが、この好みの画像の {share:.0%} は別のものです"
    ),
    "run: {line}": "{line} を実行してください",
    "run: {pip}, then: {line}": "{pip} のあと {line} を実行してください",
    "embedding": "埋め込み",
    "embedder: {name}": "埋め込み: {name}",
    "at hand": "手元にあるもの",
    "text search": "文字検索",
    "{count} images embedded with {name}": "{count} 枚を {name} で埋め込みました",
    "{name} scores now": "これからは {name} が採点します",
    "too few grades for a rater yet: `konomi label`, then `konomi rater fit`": (
        "rater にはまだ採点が足りません。`konomi label` のあと `konomi rater fit` を実行してください"
    ),
    "The new embedder; none: only show.": "新しい埋め込み。省くと表示だけします。",
    "Show which embedder looks at the images and which others are at hand, or change it.": (
        "画像を見ている埋め込みと手元にある他の埋め込みを表示し、または変更します。"
    ),
    "Images are embedded anew in the background; grades stay, and the old one scores until the new one is ready.": (
        "画像は裏で埋め込み直されます。採点は残り、新しいものが整うまで古い埋め込みが採点します。"
    ),
    "Also show the best image of each of this many regions.": "この数の領域それぞれの最良の画像も示します。",
    "{filled} of {cells} regions hold an image; QD-score {score:.1f}, Vendi {vendi:.1f}": (
        "{cells} の領域のうち {filled} に画像があります。QD スコア {score:.1f}、Vendi {vendi:.1f}"
    ),
    "region": "領域",
    "lower bound": "下限",
    "beats near": "近傍に勝る割合",
    "no rater yet, so no region has a best image: `konomi rater fit`": (
        "rater がまだないので領域の最良は決まりません。`konomi rater fit` を実行してください"
    ),
}
