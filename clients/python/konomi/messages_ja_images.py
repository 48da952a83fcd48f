"""The Japanese of what `konomi explain` says, and of the metadata of images."""

from collections.abc import Mapping

IMAGES: Mapping[str, str] = {
    # explain
    "Say where an image comes from and what became of it.": "画像の由来と、その後の使われ方を示します。",
    "Say where an image comes from: prompt, seed, unit, parents, grades, score and the training sets it entered.": (
        "画像の由来を示します。プロンプト・シード・世代・親・採点・評価・使われた学習集合。"
    ),
    "The image: its sha256, or its first digits.": "画像の sha256、またはその先頭の数桁。",
    "expected a digest, or its first {count} digits at least, got {digits}": (
        "ダイジェスト、または先頭 {count} 桁以上が必要です。受け取ったもの: {digits}"
    ),
    "{taste} knows no image whose digest begins with {digits}": "{taste} に {digits} で始まる画像はありません",
    "{count} images begin with {digits}; give more digits": (
        "{digits} で始まる画像が {count} 枚あります。もっと長く指定してください"
    ),
    "made by {unit}": "{unit} が生成",
    "brought in, not made here": "取り込まれた画像(ここで生成されたものではありません)",
    "prompt: {prompt}": "プロンプト: {prompt}",
    "seed: {seed}": "シード: {seed}",
    "in the night {night}": "夜 {night} に生成",
    "from {digest}": "親: {digest}",
    "never graded": "採点されていません",
    "{grade} by {who}, {time}": "{who} が {grade} と採点({time})",
    "undone": "取り消し済み",
    "no rater has scored it yet": "まだ評価されていません",
    "scored {utility:.2f} ± {doubt:.2f}, most likely {grade}, by rater version {version}": (
        "評価 {utility:.2f} ± {doubt:.2f}、おそらく {grade}(rater の版 {version})"
    ),
    "in no training set": "学習には使われていません",
    "trained {name} as {role}, one of {images} images, chosen by rater version {version}": (
        "{name} の学習に {role} として使用({images} 枚中の 1 枚、rater の版 {version} が選択)"
    ),
    # XMP
    "--write xmp puts a sidecar IMAGE.xmp beside each image of a folder, the prediction in konomi's own namespace: the "
    "image itself, its owner's rating and other programs' sidecars are never written.": (
        "--write xmp は、フォルダーの各画像の横に 画像名.xmp を置き、konomi 独自の名前空間に予測を書きます。"
        "画像そのもの、持ち主の評価、ほかのソフトのサイドカーには書き込みません。"
    ),
    "{count} images have a sidecar of another program, which was left as it is": (
        "{count} 枚にはほかのソフトのサイドカーがあるため、そのままにしました"
    ),
    "{count} ratings were taken over": "{count} 件の評価を引き継ぎました",
}
