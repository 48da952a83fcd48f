"""What `konomi concepts` and `konomi models merge` say, in Japanese."""

from collections.abc import Mapping

CONCEPTS: Mapping[str, str] = {
    "Teach a base model new words from a few images each.": "数枚の画像からベースモデルに新しい言葉を教えます。",
    "New words for things a base model does not know.": "ベースモデルが知らないものに新しい言葉を与えます。",
    "Teach concepts from a few images each; prompts then call them by <NAME>.": (
        "それぞれ数枚の画像から概念を教えます。以後プロンプトでは <名前> で呼びます。"
    ),
    "Word, kind and images.": "言葉・種類・画像のフォルダー。",
    "Name of the new model.": "新しいモデルの名前。",
    "What the images show; {} stands for the concept.": "画像の説明。{} に概念が入ります。",
    "Real images with captions (.txt).": "キャプション (.txt) 付きの実画像。",
    "The base model, by its id.": "ベースモデルの id。",
    "Training steps; 0 takes the default.": "学習ステップ数。0 は既定値。",
    "Seed of noise and order.": "ノイズと順序のシード。",
    "Captions that must stay as they are, one a line.": "変わってはならないキャプション。一行に一つ。",
    "Share of each change to keep, 0..1; 0 keeps all.": "各変化のうち残す割合 (0〜1)。0 はすべて残します。",
    "Merge Custom Diffusion models into a new one that knows the concepts of all.": (
        "Custom Diffusion のモデルを、すべての概念を知る一つのモデルに統合します。"
    ),
    "cannot read {file}: {why}": "{file} を読めません: {why}",
    "teaching": "教えています",
    "{name} knows: {words}": "{name} が覚えた言葉: {words}",
    "expected NAME=CLASS:FOLDER, got {line}": "「名前=種類:フォルダー」が必要ですが、{line} でした",
    "expected images in {folder}, found none": "{folder} に画像が必要ですが、ありませんでした",
    "expected one {slot} in the prompt, got {prompt}": "プロンプトに {slot} が一つ必要ですが、{prompt} でした",
    "no image in {folder} has a caption (a .txt file of the same name)": (
        "{folder} にキャプション(同名の .txt)付きの画像がありません"
    ),
    "no --regularisation folder: the class word may drift towards the concept": (
        "--regularisation のフォルダーがありません。種類の言葉が概念に引きずられることがあります"
    ),
    "the trainer stopped before the run had ended; the same command goes on with it": (
        "学習が終わる前に trainer が止まりました。同じコマンドで続きから進みます"
    ),
    "the run was cancelled": "学習は取り消されました",
    # nights that grow a set or teach words
    "propagate: an image to grow from; 1 to 5.": "propagate: 元にする画像(1〜5 枚)。",
    "concepts: a word to teach, and its images.": "concepts: 教える言葉とその画像。",
    "concepts: a model taught before, by id or name.": "concepts: 以前に教えたモデル(id または名前)。",
    "propagate grows from 1 to {most} images, and {count} of the taste's are graded UR; name them with --seed-image": (
        "propagate は 1〜{most} 枚から育ちますが、UR の画像は {count} 枚です。--seed-image で選んでください"
    ),
    "propagate grows from 1 to {most} images, {count} were named": (
        "propagate は 1〜{most} 枚から育ちますが、{count} 枚が指定されました"
    ),
    "the taste knows no image {digest}; import it, or name its file": (
        "好みに画像 {digest} はありません。取り込むか、ファイルを指定してください"
    ),
    "concepts needs something to teach: --concept NAME=CLASS:FOLDER, or --concept-model NAME": (
        "concepts には教えるものが必要です: --concept NAME=CLASS:FOLDER か --concept-model NAME"
    ),
}
