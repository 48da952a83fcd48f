"""The Japanese of `konomi rater certify`, of a version's diff, and of what the rater's server says of itself."""

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
"""What the server says, its numbers as `{names}`, to its Japanese."""

RATER: Mapping[str, str] = {
    "Go on with this certificate, by its number.": "この番号の証明書の続きをします。",
    "Images of the set, at most.": "集合の画像の最大数。",
    "How the set is chosen: converge, golden or conformal.": "集合の選び方: converge・golden・conformal。",
    "Certify these images instead: digests, best first.": "代わりにこの画像を証明します(ダイジェスト、良い順)。",
    "Largest share below the threshold to vouch for.": "保証する、しきい値未満の割合の上限。",
    "Chance of a wrong certificate.": "証明書が誤る確率。",
    "Rejections allowed; fewer means fewer images to grade.": "許す不合格の数。少ないほど採点する枚数も減ります。",
    "Lowest grade that counts as good.": "良いとみなす最低の等級。",
    "Certify the first N first, then more, until one fails.": "まず先頭の N 枚、次に多くを、失敗するまで証明します。",
    "Vouch for a set of images by grading a few of them blind, drawn at random.": (
        "無作為に選んだ数枚を評価を見ずに採点し、画像の集合を保証します。"
    ),
    "With 30 shown and at most 2 of them below SSR, at most 20 % of the set are below SSR, with 95 % confidence. Every "
    "key is durable; the same set goes on where it was left. The answers are never labels.": (
        "30 枚のうち SSR 未満が 2 枚までなら、集合の SSR 未満は 95 % の信頼で 20 % 以下です。"
        "キーはそのつど保存され、同じ集合は途中から続きます。答えは学習に使いません。"
    ),
    "1 N · 2 R · 3 SR · 4 SSR · 5 UR · z back · q quit; blind: no score is shown": (
        "1 N · 2 R · 3 SR · 4 SSR · 5 UR · z 戻る · q 終了(評価は見せません)"
    ),
    "certified: at most {alpha} of the {size} images are below {grade}, with {confidence} confidence": (
        "証明済み: {size} 枚のうち {grade} 未満は {alpha} 以下です(信頼度 {confidence})"
    ),
    "not certified: {rejections} rejected, {allowed} allowed; up to {bound} may be below {grade}": (
        "証明できません: 不合格 {rejections}(許容 {allowed})。{grade} 未満は最大 {bound} ありえます"
    ),
    "{left} of {shown} images are left to grade; go on with: konomi rater certify {number}": (
        "{shown} 枚のうち {left} 枚が残っています。続き: konomi rater certify {number}"
    ),
    "expected one of 1-5, z and q on each line, got {key!r}": (
        "各行には 1〜5・z・q のどれかが必要です。見つかったのは {key!r}"
    ),
    "the policy {policy} selected no image: grade or make more, or name a set with --set": (
        "方針 {policy} で選ばれた画像がありません。採点や画像を増やすか、--set で集合を指定してください"
    ),
    "expected a readable file of digests, got {file}": "読めるダイジェストのファイルが必要です。見つかったのは {file}",
    "expected a sha256 digest on each line of {file}, got {line!r}": (
        "{file} の各行には sha256 のダイジェストが必要です。見つかったのは {line!r}"
    ),
    "expected sizes such as 50,100 with --stages, got {given!r}": (
        "--stages には 50,100 のような数が必要です。見つかったのは {given!r}"
    ),
    "expected a grade N, R, SR, SSR or UR, got {name!r}": "等級 N・R・SR・SSR・UR が必要です。見つかったのは {name!r}",
    "agreement with you: {qwk}; you with yourself: {retest} over {n} hidden repeats": (
        "あなたとの一致: {qwk}。あなた自身との一致: {retest}(隠れた再採点 {n} 枚)"
    ),
    "selection pressure since the last audit: {nats} nats over {n} selections (best of n: {best})": (
        "最後の監査からの選択圧: {n} 回の選別で {nats} nat(best of n: {best})"
    ),
    "against version {against}: {changed} labels changed; {verdict}": (
        "版 {against} と比べて: 採点 {changed} 枚が変わりました。{verdict}"
    ),
    "against version {against}: {changed} labels changed; on {n} panel images srcc {srcc}, before {before}; "
    "{verdict}": (
        "版 {against} と比べて: 採点 {changed} 枚が変わりました。"
        "固定の {n} 枚で srcc {srcc}、以前は {before}。{verdict}"
    ),
    "the panel is too small to tell": "比べるための固定の画像がまだ足りません",
    "worse: it does not score": "劣るため採点に使いません",
    "not worse": "劣りません",
    "better": "優れています",
    "not compared": "比べていません",
}
"""What the command says to its Japanese."""
