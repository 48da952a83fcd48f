"""The Japanese of the sentences a server sends, by their English."""

from collections.abc import Mapping

SPOKEN: Mapping[str, str] = {
    "Over-optimisation: from {first} to {last} the rater's mean grade rose {proxy} and people's own did not ({human}); "
    "grade more random images of {last}, or roll back.": (
        "過剰最適化: {first} から {last} で rater の平均は {proxy} 上がりましたが、人の採点は上がっていません"
        "({human})。無作為の画像をもっと採点するか、巻き戻してください。"
    ),
    "Over-optimisation: the rater doubts the images of {last} {ratio} times as much as those of {first}; grade some of "
    "them.": "過剰最適化: {last} の画像に対する rater の迷いが {first} の {ratio} 倍です。いくつか採点してください。",
    "Over-optimisation: {share} of the images of {last} are unlike anything known, {base} of {first}; look at them "
    "before going on.": (
        "過剰最適化: {last} の画像の {share} が既知のどれとも似ていません({first} では {base})。"
        "先に目で確かめてください。"
    ),
    "Over-optimisation: {nats} nats of selection since a person last audited, more than {limit}; audit a set with "
    "`konomi rater certify`.": (
        "過剰最適化: 人の最後の監査からの選択圧が {nats} nat で、上限 {limit} を超えました。"
        "`konomi rater certify` で監査してください。"
    ),
    "Not activated: on {n} panel images no version was fitted on it ranks surely worse than version {against} (srcc "
    "{srcc} against {earlier}); that one goes on scoring.": (
        "採用していません: どの版の学習にも使わない {n} 枚で、版 {against} より明らかに劣ります"
        "(srcc {srcc} 対 {earlier})。その版が採点を続けます。"
    ),
    "Only favourites are graded: the rater knows what is unlike the rest, not how often you would give a grade; grade "
    "some images you do not like.": (
        "お気に入りしか採点されていません。他との違いは分かりますが、各等級をどのくらいの頻度で付けるかは分かりません。"
        "好きでない画像もいくつか採点してください。"
    ),
    "Only {top} UR labels: probabilities of UR rest on the order of the lower grades.": (
        "UR の採点が {top} 枚しかありません。UR の確率は下の等級の順序に頼っています。"
    ),
    "Only {drawn} of {all} labels were drawn at random, {needed} are needed: probabilities are the model's own, not "
    "calibrated.": (
        "無作為に選んだ採点が {all} 枚のうち {drawn} 枚だけです({needed} 枚必要)。"
        "確率はモデルのままで、較正されていません。"
    ),
    "Too few independent labels to measure the rater: grade more images.": (
        "rater を測るための独立した採点が足りません。もっと採点してください。"
    ),
    "On unseen labels the rater is not surely better than chance (srcc {low} to {high}): grade more images.": (
        "未知の採点に対して偶然より良いとは言い切れません(srcc {low}〜{high})。もっと採点してください。"
    ),
    "Selection by evidence needs {needed} labels and there are {labels}: nothing was selected; until then `konomi "
    "rater certify` can vouch for a set.": (
        "証拠による選別には採点が {needed} 枚必要で、今は {labels} 枚です。何も選びませんでした。"
        "それまでは `konomi rater certify` が集合を保証できます。"
    ),
    "{n} random labels show none of the images to be good at a false-discovery rate of {rate}: at least {share} of the "
    "candidates would have to qualify together; grade more random images, or allow a higher rate.": (
        "無作為の採点 {n} 枚では、偽発見率 {rate} で良いと示せる画像がありません。候補の {share} 以上がそろって合格する"
        "必要があります。無作為の画像をもっと採点するか、率を上げてください。"
    ),
    "At most {rate} of these {count} images are below SSR, on average over draws of {n} random labels.": (
        "この {count} 枚のうち SSR 未満は平均で {rate} 以下です(無作為の採点 {n} 枚にもとづく)。"
    ),
    "At most {rate} of the {admitted} images that qualify are below SSR, on average over draws of {n} random labels; "
    "the {count} with the strongest evidence were selected.": (
        "合格した {admitted} 枚のうち SSR 未満は平均で {rate} 以下です(無作為の採点 {n} 枚にもとづく)。"
        "証拠の強い {count} 枚を選びました。"
    ),
}
