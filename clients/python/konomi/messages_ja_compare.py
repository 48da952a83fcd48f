"""The Japanese of `konomi models compare` and of exports, by their English."""

from collections.abc import Mapping

COMPARE: Mapping[str, str] = {
    "Draw blind pairs of two models, or judge the answers given on such a sheet.": (
        "二つのモデルの画像を名前を伏せて並べた用紙を作る、または用紙の答えを判定します。"
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
    "Your answers; give them to `{command}`:": (
        "あなたの答え。`{command}` に渡してください："
    ),
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
