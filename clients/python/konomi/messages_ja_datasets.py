"""The Japanese of taste bundles, and of datasets read and written."""

from collections.abc import Mapping

DATASETS: Mapping[str, str] = {
    # taste
    "A whole taste in one file, and back on any machine.": "好みのすべてを一つのファイルに。どの機械でも元に戻せます。",
    "The bundle.": "バンドルファイル。",
    "Write a whole taste into one file: grades, rater versions, images, models, ledger, nights.": (
        "好みのすべてを一つのファイルに書き出します。採点・rater の版・画像・モデル・来歴・夜の記録。"
    ),
    "The same taste makes the same bytes. The base model and the embedder are named in it, not held.": (
        "同じ好みからは同じバイト列ができます。ベースモデルと埋め込みモデルは名前だけで、中身は入りません。"
    ),
    "Leave the images out: it scores and fits, but shows none.": (
        "画像を含めません。評価と学習はできますが、画像は表示されません。"
    ),
    "Restore a taste from a bundle, whole or not at all, after every byte of it was checked.": (
        "バンドルから好みを復元します。全バイトを検査してから、すべて戻すか、何も変えないかのどちらかです。"
    ),
    "A taste of the same name is never overwritten unless you say --replace; it is then written to a bundle first.": (
        "同じ名前の好みは --replace と言わない限り上書きしません。その場合も、先にバンドルへ書き出します。"
    ),
    "Name it gets here; else the one it had.": "ここでの名前。省略すると元の名前。",
    "Replace the taste of that name.": "その名前の好みを置き換えます。",
    "Leave the models out.": "モデルを含めません。",
    "Also write konomi.toml, where there is none.": "konomi.toml がなければ、それも書きます。",
    "Check every byte of a bundle; nothing needs to run.": (
        "バンドルの全バイトを検査します。何も起動していなくて構いません。"
    ),
    "writing": "書き出し中",
    "restoring": "復元中",
    "{file}: {count} artifacts, {size} bytes": "{file}: {count} 個、{size} バイト",
    "{file}: whole, {count} artifacts, {size} bytes": "{file}: 完全です。{count} 個、{size} バイト",
    "{file}: restored as {taste}": "{file}: {taste} として復元しました",
    "the taste that was there is kept in {file}": "それまでの好みは {file} に残してあります",
    # export
    "Write images as a dataset: kohya, WebDataset, parquet.": (
        "画像をデータセットとして書き出します: kohya・WebDataset・parquet。"
    ),
    "Write images with captions, grades, scores and digests as a dataset other tools load.": (
        "画像を、キャプション・採点・評価・ダイジェストとともに、ほかのソフトが読めるデータセットに書き出します。"
    ),
    "Your grades and the rater's predictions stand in fields of their own, and a prediction never takes a grade's "
    "place. The folder is there whole or not at all; a file of yours is never overwritten.": (
        "あなたの採点と rater の予測は別々の欄に入り、予測が採点の代わりになることはありません。"
        "フォルダーは完成したときにだけ現れ、既存のファイルを上書きすることはありません。"
    ),
    "The layout.": "形式。",
    "A folder that is empty or not there yet.": "空の、またはまだ無いフォルダー。",
    "Only images you graded so; may repeat.": "あなたがそう採点した画像だけ。繰り返せます。",
    "Only images this unit made, by its id.": "この世代が作った画像だけ(ID で指定)。",
    "Begin captions with the quality word of your grade.": "採点に応じた品質の語でキャプションを始めます。",
    "kohya: class tokens.": "kohya: クラストークン。",
    "kohya: how often an epoch shows each image.": "kohya: 1 エポックで各画像を見せる回数。",
    "kohya: for dataset.toml, in pixels.": "kohya: dataset.toml に書く解像度(ピクセル)。",
    "The others: images of a file at most.": "ほかの形式: 1 ファイルあたりの最大枚数。",
    "{count} images written to {folder}": "{count} 枚を {folder} に書き出しました",
    "expected a folder that is empty or not there yet, found files in {folder}": (
        "空の、またはまだ無いフォルダーが必要です。{folder} にはファイルがあります"
    ),
    "expected a grade of N, R, SR, SSR and UR, got {got}": (
        "N・R・SR・SSR・UR のどれかが必要です(受け取ったもの: {got})"
    ),
    "expected a concept of letters, digits, spaces and hyphens, got {got}": (
        "概念名は英数字・空白・ハイフンだけです(受け取ったもの: {got})"
    ),
    # import
    "Make images of any origin known: folders, files, zips, tars, parquet.": (
        "どこから来た画像でも取り込みます: フォルダー・ファイル・zip・tar・parquet。"
    ),
    "Folders, zips, tars, parquet tables or images.": "フォルダー・zip・tar・parquet・画像。",
    "{count} images seem to hold a prompt that was not read; run: {line}": (
        "{count} 枚の画像に、読み取れなかったプロンプトがあるようです。実行してください: {line}"
    ),
    "PNG, JPEG and WebP are read; the originals are never written. Prompts are read from captions beside the images "
    "(.txt, .caption, metadata.jsonl, kohya's folders), else from what A1111, ComfyUI, NovelAI, InvokeAI and konomi "
    "wrote into them. Ratings of one to five stars from XMP, inside the image or in a sidecar, and grades of "
    "metadata.jsonl become the grades N to UR of images new to the taste.": (
        "PNG・JPEG・WebP を読みます。元のファイルには書き込みません。プロンプトは画像の横のキャプション"
        "(.txt・.caption・metadata.jsonl・kohya のフォルダー名)から、なければ A1111・ComfyUI・NovelAI・InvokeAI・"
        "konomi が画像に書いたものから読みます。画像内やサイドカーの XMP の星 1〜5 と metadata.jsonl の採点は、"
        "新しい画像の採点 N〜UR になります。"
    ),
}
