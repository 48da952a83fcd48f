"""The Japanese of `konomi models compare` and of exports, by their English."""

from collections.abc import Mapping

COMPARE: Mapping[str, str] = {
    "Draw blind pairs of two models, judge the answers given on such a sheet, or compare base models.": (
        "二つのモデルの画像を名前を伏せて並べた用紙を作る、用紙の答えを判定する、または元のモデルを比べます。"
    ),
    "The names are base models: say which one suits the taste.": "名前は元のモデル。どれが好みに合うかを示します。",
    "With --bases: images of each.": "--bases のとき、それぞれの画像の数。",
    "expected two base models or more, each once, got {names}": (
        "元のモデルを二つ以上、一度ずつ指定してください。受け取ったもの: {names}"
    ),
    "there is no base model {name} here; at hand: {known}": "元のモデル {name} はここにありません。あるもの: {known}",
    "the taste has no rater yet: grade some images, then `konomi rater fit`": (
        "まだ rater がありません。画像を採点し、`konomi rater fit` を実行してください"
    ),
    "the generator ended {count} images short; try again": (
        "generator が {count} 枚足りないまま終わりました。もう一度試してください"
    ),
    "making images": "画像を作っています",
    "base model": "元のモデル",
    "score": "評価",
    "lower bound": "下限",
    "SSR or better": "SSR 以上",
    "UR": "UR",
    "typical": "典型的",
    "wins against it": "首位への勝率",
    "sheet: {file}": "一覧:{file}",
    "{best} suits this taste best: surely better than {second}": (
        "{best} がこの好みに最も合います。{second} より確かに上です"
    ),
    "{best} is ahead, but {second} may be as good: more images would tell": (
        "{best} が先ですが、{second} も同じくらいかもしれません。画像を増やすとわかります"
    ),
    "{base}: {share} of its images are unlike anything known, so its score is a guess; grade some first": (
        "{base}:画像の {share} が既知のどれとも似ていないため、評価は当て推量です。まずいくつか採点してください"
    ),
    "Base models under this taste": "この好みから見た元のモデル",
    "The same prompts and seeds by each, as the rater sees them; nothing picked.": (
        "どれも同じプロンプトとシードで、rater の目で見たもの。選び抜いてはいません。"
    ),
    "Two models, by name or id; `base` is the base model.": "二つのモデル（名前または id）。`base` はベースモデル。",
    "Where to write the sheet.": "用紙の書き出し先。",
    "Pairs on the sheet.": "用紙の組の数。",
    "A prompt; may be given again. Default: those the first model learnt.": (
        "プロンプト。複数回指定できます。省くと最初のモデルが学んだもの。"
    ),
    "Seed of images and sides.": "画像と左右を決めるシード。",
    "Judge: the answers the sheet shows.": "判定する答え。用紙に表示されます。",
    "Shown by other tools; default: the run's last sample.": "他のツールに表示される画像。省くと学習の最後の見本。",
    "Who made it, for the file's header.": "ファイルのヘッダーに書く作者名。",
    "Which one do you like better?": "どちらが好きですか",
    "left": "左",
    "right": "右",
    "equal": "同じ",
    "Your answers; give them to `{command}`:": ("あなたの答え。`{command}` に渡してください："),
    "expected at least one prompt to compare with, got none": "比較には少なくとも一つのプロンプトが必要です",
    "expected the key file of a sheet of pairs, got something else": "用紙の鍵ファイルではないものが渡されました",
    "expected {count} letters L, R, T or -, one a pair; got {answers}": (
        "一組に一つ、L・R・T・- の文字が {count} 個必要ですが、{answers} が渡されました"
    ),
    "expected two models to compare, got {count}": "比較には二つのモデルが必要ですが、{count} 個でした",
    "{sheet}: {count} blind pairs; do not open {key} before you have judged": (
        "{sheet}: 名前を伏せた {count} 組。判定が済むまで {key} は開かないでください"
    ),
    "expected two models of one base model, or one and `base`": (
        "同じベースモデルの二つのモデル、または一つのモデルと `base` が必要です"
    ),
    "expected the key file {path} beside the sheet; there is none": "用紙の隣に鍵ファイル {path} がありません",
    "{first} is preferred to {second} in {rate} of {count} pairs (95 % interval {low} to {high})": (
        "{count} 組のうち {rate} で {first} が {second} より好まれました（95 % 区間 {low}〜{high}）"
    ),
    "expected a PNG, JPEG or WebP image, got {path}": "PNG・JPEG・WebP の画像が必要ですが、{path} でした",
    "expected a run that publishes adapters at its checkpoints; it published none": (
        "途中経過のアダプターを公開する学習が必要ですが、一つも公開されませんでした"
    ),
}
