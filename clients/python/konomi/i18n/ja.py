"""The Japanese of help and messages, by their English; tests hold it against what the commands say."""

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
    "The same prompts and seeds by each, as the rater sees them; nothing was picked by looking.": (
        "どれも同じプロンプトとシードで、評価モデルが予測したもの。恣意的に選んではいません。"
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
    "Your answers; give them to the command {command}:": "あなたの答え。{command} に渡してください:",
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
}


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


MODELS: Mapping[str, str] = {
    "A diffusers folder or a checkpoint file.": "diffusers のフォルダー、またはチェックポイントのファイル。",
    "What to call it; its own name where none is given.": "付ける名前。省くと元の名前。",
    "Read a pickle, in a sandbox, once.": "pickle を、隔離した中で一度だけ読みます。",
    "Put a base model of this machine among those of the home.": (
        "このマシンにあるベースモデルを home に取り込みます。"
    ),
    "A .safetensors file or a diffusers folder is checked and copied. A .ckpt can run code: with --convert a child "
    "without network, files or privileges reads its tensors once; afterwards only the safetensors copy is used.": (
        ".safetensors と diffusers のフォルダーは検査してから写します。.ckpt はコードを実行し得るため、--convert では"
        "ネットワークもファイルも権限も持たない子プロセスがテンソルを一度だけ読み、"
        "以後は safetensors の写しだけを使います。"
    ),
    "converting in a sandbox; this takes a while": "隔離した中で変換しています。しばらくかかります",
    "{id}: {layout}, {size} bytes, sha256 {digest}": "{id}: {layout}、{size} バイト、sha256 {digest}",
    "A known embedder or base model; none lists them.": (
        "既知の埋め込みモデルまたはベースモデル。省くと一覧を出します。"
    ),
    "Only safetensors come, of one pinned revision. Digest and size are shown first; an interrupted fetch goes on "
    "where it ended.": (
        "固定した版の safetensors だけを取得します。先にダイジェストと大きさを示し、途切れた取得は続きから再開します。"
    ),
    "{name} is there: {files}": "{name} はここにあります: {files}",
    "no model is called {name}; known are {known}": "{name} というモデルはありません。あるのは {known}",
    "{name}: {repository} at {revision}, licence {licence}": "{name}: {repository} の {revision}、ライセンス {licence}",
    "{file}: {size} bytes, digest {digest} (konomi's own list)": (
        "{file}: {size} バイト、ダイジェスト {digest}(konomi の一覧による)"
    ),
    "{file}: {size} bytes, digest {digest} (the hub's word; kept for next time)": (
        "{file}: {size} バイト、ダイジェスト {digest}(ハブの申告。次回の照合のため控えます)"
    ),
    "{file}: the hub said {before} at first and says {now} now": (
        "{file}: ハブの申告が初回の {before} から {now} に変わっています"
    ),
    "what": "内容",
    "size": "大きさ",
    "licence": "ライセンス",
}


NIGHT: Mapping[str, str] = {
    # the night and the demo
    "Plan, start, watch, stop and report a night.": "夜を計画・開始・確認・停止・報告します。",
    "Say what a night would make and take, without starting it.\n\nExample: konomi night plan converge --units 3": (
        "始めずに、一夜で何をどれだけ作り、どれだけかかるかを示します。\n\n例: konomi night plan converge --units 3"
    ),
    "Start a night, or go on with the one this same command began.\n\nUses the services of `konomi up` where it runs, "
    "otherwise starts its own. Ctrl-C or `konomi night stop` ends it after the step under way. Exit code 5: a guard "
    "halted it.\n\nExample: konomi night start converge --units 3": (
        "夜を始めます。同じコマンドで始めた夜があれば続きから進めます。\n\n`konomi up` が動いていればそれを使い、"
        "なければ自分でサービスを起動します。Ctrl-C か `konomi night stop` で、進行中の手順を終えてから止まります。"
        "終了コード 5 は安全装置による中止です。\n\n例: konomi night start converge --units 3"
    ),
    "Go on with the unfinished night.\n\nExample: konomi night resume": (
        "終わっていない夜の続きを進めます。\n\n例: konomi night resume"
    ),
    "Show where the newest night is.\n\nExample: konomi night status --json": (
        "最新の夜がどこまで進んだかを示します。\n\n例: konomi night status --json"
    ),
    "Ask the night that runs to end after its step, and wait until it has.\n\nExample: konomi night stop": (
        "動いている夜に、いまの手順を終えたら止まるよう頼み、止まるまで待ちます。\n\n例: konomi night stop"
    ),
    "Write the report of a night anew and say where it is.\n\nExample: konomi night report": (
        "夜のレポートを書き直し、その場所を示します。\n\n例: konomi night report"
    ),
    "converge, golden, longtail, propagate or concepts.": "converge・golden・longtail・propagate・concepts のどれか。",
    "Units to make.": "作る世代の数。",
    "Images generated for each unit.": "世代ごとに生成する画像の数。",
    "Working hours the night may spend.": "夜が使ってよい作業時間。",
    "Images the night may generate in all.": "夜が生成してよい画像の総数。",
    "Seed everything is derived from.": "すべての元になるシード。",
    "File of prompts, one a line; default: the taste's own.": (
        "一行に一つのプロンプトを書いたファイル。既定はその好みの画像のプロンプト。"
    ),
    "Id of the night; the same id never runs twice.": "夜の識別子。同じ識別子が二度動くことはありません。",
    "The night, by its id; default: the newest.": "夜の識別子。既定は最新の夜。",
    "Also give the unfinished night up for good.": "終わっていない夜を打ち切ります。",
    "Seconds to wait for its end.": "終わりを待つ秒数。",
    "how long: unknown until a first night has been measured here": "所要時間:最初の夜を測るまではわかりません",
    "about {minutes} minutes, as measured in the last night": "前の夜の実測から、およそ {minutes} 分",
    "there is no unfinished night; `konomi night start converge` begins one": (
        "終わっていない夜はありません。`konomi night start converge` で始められます"
    ),
    "there is no unfinished night": "終わっていない夜はありません",
    "no night has been started here": "ここではまだ夜を始めていません",
    "stopping after the step under way…": "いまの手順を終えたら止まります…",
    "the night {night} is {state}": "夜 {night}:{state}",
    "cannot read the prompts: {error}": "プロンプトを読めません:{error}",
    "expected one prompt a line in {path}, found none": "{path} に一行一つのプロンプトが必要ですが、ありません",
    "night {night}; `konomi night status` shows it, Ctrl-C stops it safely": (
        "夜 {night}。`konomi night status` で様子を見られます。Ctrl-C で安全に止まります"
    ),
    "report: {path}": "レポート:{path}",
    "the base model": "元のモデル",
    "decision": "判定",
    "wins": "勝率",
    "Vendi": "Vendi",
    "time": "時間",
    "the demo works in {home}": "デモの作業場所:{home}",
    "{person}: SSR or better {before:.0%} → {after:.0%}, UR {ur_before:.0%} → {ur_after:.0%}; {seconds:.0f} s": (
        "{person}:SSR 以上 {before:.0%} → {after:.0%}、UR {ur_before:.0%} → {ur_after:.0%}、{seconds:.0f} 秒"
    ),
    "Units the night makes.": "夜が作る世代の数。",
    "Images the person grades before the night.": "夜の前に採点する画像の数。",
    "Seed of everything, the random person too.": "すべてのシード。人物を無作為に選ぶシードも兼ねます。",
    "System of the night.": "夜の方式。",
    "JSON file: name, weights, noise; default: a random person.": (
        "name・weights・noise を書いた JSON ファイル。既定は無作為の人物。"
    ),
    "List what a person can like, and stop.": "好みになりうる属性を並べて終わります。",
    "Run the main job, start to end, with a simulated person: grade, rate, generate, select, train, and the truth.\n\n"
    "Starts everything it needs, stops it again, and says where the report is. Without --home it works in a new folder."
    "\n\nExample: konomi demo --units 3 --labels 64": (
        "模擬の人物で、採点・評価・生成・選別・学習・答え合わせまでを通して実演します。\n\n必要なものを起動し、"
        "終わったら止め、レポートの場所を示します。--home がなければ新しいフォルダーで働きます。"
        "\n\n例: konomi demo --units 3 --labels 64"
    ),
    # the morning's message
    "receiver {number} of [notify] urls is no address apprise knows": (
        "[notify] urls の {number} 番目は apprise の知らない宛先です"
    ),
    "konomi: {unit} is served this morning": "konomi: 今朝のモデルは {unit} です",
    "the message could not be delivered yet; it is kept and tried again": (
        "通知はまだ届いていません。保管してあり、あとで再び送ります"
    ),
    "{units} units, {images} images, {training_steps} training steps": (
        "{units} 世代、画像 {images} 枚、学習 {training_steps} ステップ"
    ),
    "about {size:.0f} MB of disk": "ディスク約 {size:.0f} MB",
    "about {hours:.2f} hours on the accelerator": "アクセラレーターで約 {hours:.2f} 時間",
    "{value:g} hours": "{value:g} 時間",
    "{value:,} images": "画像 {value:,} 枚",
    "{value:g} hours on the accelerator": "アクセラレーター {value:g} 時間",
    "{value:g} GiB of disk": "ディスク {value:g} GiB",
    "budgets: {parts}": "予算:{parts}",
    "the night would end early: more than {budget}": "予算({budget})を超えるため、夜は途中で終わります",
    "Hours on the accelerator the night may spend.": "夜がアクセラレーターで使ってよい時間。",
    "GiB of disk the night may add.": "夜が増やしてよいディスク容量(GiB)。",
    "about {cost:.2f} at the price of an hour in [night] hour_price": "費用 約 {cost:.2f}([night] hour_price の単価)",
    "about {kwh:.2f} kWh at the watts in [night] watts": "電力 約 {kwh:.2f} kWh([night] watts の値)",
    # night schedule
    "Hour of the day, by this machine's clock.": "開始時刻(このマシンの時計)。",
    "End after one night.": "一晩で終わります。",
    "Wait for an hour of the day and start a night then, every day; what follows the hour is given to `night start`.": (
        "毎日、決めた時刻を待って夜を始めます。時刻のあとに書いたものは `night start` に渡します。"
    ),
    "An unfinished night is gone on with first. Ctrl-C ends the wait, or the night after the step under way.": (
        "終わっていない夜があれば、まず続きから進めます。Ctrl-C で待機を、または実行中のステップのあとに夜を終えます。"
    ),
    "expected the system after the hour, for example: schedule {at} converge": (
        "時刻のあとに system が必要です。例: schedule {at} converge"
    ),
    "the next night begins at {time}; Ctrl-C ends the wait": "次の夜は {time} に始まります。Ctrl-C で待機を終えます",
    "expected an hour as HH:MM, for example 22:00, got {at}": (
        "時刻は 22:00 のように HH:MM で書いてください。受け取ったもの: {at}"
    ),
    # a night's plan
    "A system, a chain such as longtail:2+golden:1, or a plan as a TOML file.": (
        "システム名、longtail:2+golden:1 のような連結、または TOML の計画ファイル。"
    ),
    "the stages say how many units the night makes; leave --units out": (
        "世代数は各段で決まります。--units は書かないでください"
    ),
    "the night setting {name} cannot be used: {why}": "夜の設定 {name} は使えません: {why}",
    "the plan {path} cannot be used: {why}": "計画 {path} は使えません: {why}",
    "expected [[stage]] tables and at most a [night] table": "[[stage]] の表と、あれば [night] の表だけが書けます",
    "units belong to the stages": "units は各 stage に書きます",
    "a [[stage]] has system and units, 1 or more": "[[stage]] には system と units(1 以上)が要ります",
}


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
    "Grade {missing} more in the view Grade: then the percentages can be checked.": (
        "「採点」画面であと {missing} 枚採点すると、確率が正しいかを確かめられます。"
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
    "{n} random labels show none of the images to be good at a false-discovery rate of {rate}: at least {least} of the "
    "candidates would have to qualify together; grade more random images, or allow a higher rate.": (
        "無作為の採点 {n} 枚では、偽発見率 {rate} で良いと示せる画像がありません。候補の {least} 以上がそろって合格する"
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
"""What the rater says."""

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


SCORE: Mapping[str, str] = {
    "Stopped or killed, the same command goes on where it was; a file that cannot be read is that file's own error.": (
        "途中で止めても、強制終了しても、同じコマンドで続きから再開します。読めないファイルはそのファイルだけの誤りです。"
    ),
    "stopped after {count} images; the same command goes on from there": (
        "{count} 枚で止めました。同じコマンドで続きから再開します"
    ),
    "the rater changed meanwhile: the same command scores again what the earlier one scored": (
        "途中で rater が新しくなりました。同じコマンドで、前の版が採点した分を採点し直します"
    ),
}


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


TERMINAL: Mapping[str, str] = {
    # completion
    "Install completion for the current shell.": "使用中のシェルに補完を設定します。",
    "Show completion for the current shell, to copy it or customize the installation.": (
        "使用中のシェルの補完スクリプトを表示します。自分で設定するときに。"
    ),
    # doctor
    "without it there is no grading page": "これがないと採点ページがありません",
    "without it prompts of other programs' images are not read, and no datasets are written": (
        "これがないと、ほかのソフトの画像のプロンプトは読めず、データセットも書き出せません"
    ),
    "without it there is no embedder for other images than portraits that needs no download": (
        "これがないと、人物画以外の画像向けの、ダウンロード不要の埋め込みがありません"
    ),
    "no home yet; the first start makes one for you alone": "まだありません。最初の起動で自分専用に作られます",
    "other people of this machine can look into the home (mode {mode:o})": (
        "このマシンの他の人がホームの中を見られます(モード {mode:o})"
    ),
    "the home is yours alone (mode {mode:o})": "ホームを見られるのは自分だけです(モード {mode:o})",
    "asked when konomi.toml can be read": "konomi.toml が読めるときに調べます",
    "only this machine reaches it ({host})": "このマシンからだけ届きます({host})",
    "remove page_host from [page] in {path}, or KONOMI_PAGE_HOST": (
        "{path} の [page] から page_host を、または KONOMI_PAGE_HOST を消してください"
    ),
    "it will not start on {host} without page_certificate and page_key": (
        "{host} では page_certificate と page_key がないと起動しません"
    ),
    "there is no file {path}": "{path} がありません",
    "others can read its key (mode {mode:o})": "鍵を他人が読めます(モード {mode:o})",
    "others on the network reach it ({host})": "ネットワークの他のマシンから届きます({host})",
    "only this machine reaches the services ({host})": "サービスにはこのマシンからだけ届きます({host})",
    "remove host from [server] in {path}, or KONOMI_HOST": (
        "{path} の [server] から host を、または KONOMI_HOST を消してください"
    ),
    "the services will not start on {host} without tls_certificate and tls_key": (
        "{host} では tls_certificate と tls_key がないとサービスは起動しません"
    ),
    "others on the network reach the services ({host})": "サービスにネットワークの他のマシンから届きます({host})",
}


VERDICT: Mapping[str, str] = {
    "Judge a night blind: its unit against what was served before, at equal prompts and seeds; then keep or roll back."
    "\n\nIn a terminal the pairs are shown one by one; elsewhere, or with --sheet, on a page whose answers go to "
    "--answers. The answers are an audit: no rater learns from them, and the next night's selection pressure starts "
    "anew."
    "\n\nExample: konomi night verdict --keep": (
        "夜を目隠しで判定します。夜の前のモデルと新しい号機を同じプロンプトとシードで比べ、残すか戻すかを決めます。"
        "\n\n端末では一組ずつ示します。そのほかでは --sheet で書いたページの答えを --answers に渡します。"
        "答えは監査で、評価モデルは学ばず、次の夜の選択圧は新しく数え始めます。"
        "\n\n例: konomi night verdict --keep"
    ),
    "Write the blind pairs as one HTML file.": "目隠しの組を一つの HTML ファイルに書き出します。",
    "The answers such a sheet shows.": "そのシートに示された答え。",
    "Keep the unit the night serves.": "夜が採用した号機を残します。",
    "Return to what was served before the night.": "夜の前のモデルに戻します。",
    "expected one of --keep and --roll-back, got both": "--keep と --roll-back はどちらか一つにしてください",
    "{count} blind pairs in {file}": "目隠しの組 {count} 組を {file} に書きました",
    "l left · r right · t equal · z undo · q quit": "l 左 · r 右 · t 同じ · z 元に戻す · q 終了",
    "k keep · b roll back · any other key: later": "k 残す · b 戻す · ほかのキー: あとで",
    "pair {n} of {of}: {prompt}": "{of} 組中 {n} 組目:{prompt}",
    "this night changed nothing that could be judged": "この夜は何も変えていないので、判定するものがありません",
    "expected a pair from 1 to {count}": "組は 1 から {count} で指定してください",
    "every pair is answered and the sides are known: the answers stand": (
        "すべての組に答えて左右が明かされたので、答えは変えられません"
    ),
    "expected {unit} to be in use, but another model was made current since; choose one under Lineage": (
        "{unit} はもう使われていません。その後ほかのモデルに変わっています。「系譜」で選んでください"
    ),
    "{answered} of {pairs} blind pairs answered": "目隠しの組 {pairs} 組のうち {answered} 組に答えました",
    "`konomi night verdict` in a terminal, the page, or --sheet FILE show them": (
        "端末の `konomi night verdict`、ページ、または --sheet FILE で見られます"
    ),
    "you chose {unit} over {against} in {wins} of {pairs} pairs, {ties} equal: {value} ({low} to {high})": (
        "{pairs} 組のうち {wins} 組で {against} より {unit} を選びました(同じ {ties}):{value}({low}〜{high})"
    ),
    "the new unit surely loses: roll it back": "新しい号機は確かに負けています。戻すことを勧めます",
    "the new unit surely wins: keep it": "新しい号機は確かに勝っています。残すことを勧めます",
    "the pairs cannot tell which is better: keep what you like to look at": (
        "どちらが良いかは組からは決まりません。見て好きなほうを残してください"
    ),
    "not decided yet: --keep or --roll-back": "まだ決めていません:--keep か --roll-back",
    "decided: {unit} is kept": "決定:{unit} を残しました",
    "decided: rolled back to {against}": "決定:{against} に戻しました",
    "to judge it blind, then keep it or roll it back: konomi night verdict": (
        "目隠しで判定し、残すか戻すかを決めるには: konomi night verdict"
    ),
    "verdict": "判定",
}


ALARMS: Mapping[str, str] = {
    # what became of a unit, and why a night ended
    "unit-{unit} was promoted: in the rater's eyes it won {win_rate} of the pairs against {parent}.": (
        "unit-{unit} を採用しました。{parent}とのペア比較で、評価モデルから見た勝率は {win_rate} です。"
    ),
    "unit-{unit} was promoted: it knows the words that were taught ({words}).": (
        "unit-{unit} を採用しました。教えた言葉({words})を知っています。"
    ),
    "{parent} stays: unit-{unit} won only {win_rate} of the pairs against it.": (
        "{parent}を残しました。unit-{unit} の勝率は {win_rate} にとどまりました。"
    ),
    "unit-{unit} was not promoted: it makes exactly the images its parent makes.": (
        "unit-{unit} は採用しませんでした。親とまったく同じ画像を作ります。"
    ),
    "The night was halted: unit-{unit} makes images whose scores are not numbers.": (
        "unit-{unit} の画像の予測が数値にならないため、夜を中止しました。"
    ),
    "The night was halted at unit-{unit}: another rater version became active, so its figures cannot be compared.": (
        "評価モデルの版が変わり、unit-{unit} の値を比べられないため、夜を中止しました。"
    ),
    "The night was halted: unit-{unit} keeps only {ratio} of the base model's diversity; the floor is {floor}.": (
        "unit-{unit} の多様性が元のモデルの {ratio} まで下がったため、夜を中止しました(下限 {floor})。"
    ),
    "The night was halted: {share} of unit-{unit}'s images are unlike anything known; the limit is {limit}.": (
        "unit-{unit} の画像の {share} が既知のどれとも似ていないため、夜を中止しました(上限 {limit})。"
    ),
    "The night was halted: the rater doubts unit-{unit}'s images {ratio} times as much as the base model's; "
    "the limit is {limit}.": (
        "unit-{unit} に対する評価モデルの迷いが元のモデルの {ratio} 倍になったため、夜を中止しました(上限 {limit} 倍)。"
    ),
    "The night was halted: unit-{unit} reaches only {share} of the liked regions the base model reaches; the "
    "floor is {floor}.": (
        "unit-{unit} は、元のモデルが届く好みの領域の {share} にしか届かないため、夜を中止しました(下限 {floor})。"
    ),
    "The night was halted: for {runs} units in a row the rater's own score rose faster than what supports it, "
    "which is how a rater gets fooled.": (
        "{runs} 世代続けて、裏付けのないまま予測だけが上がったため、夜を中止しました。"
    ),
    "The night was halted: the rater's own score rose faster than what supports it, which is how a rater gets "
    "fooled.": "裏付けのないまま予測だけが上がったため、夜を中止しました。",
    "The night was halted before unit-{unit}: its selection would bring the pressure to {nats} nats; a person "
    "has to look after {limit}.": (
        "unit-{unit} の選別で選択圧が {nats} nat になるため、その前に夜を中止しました(人の確認なしの上限 {limit})。"
    ),
    "The night was not begun: the rater's choices have spent {nats} of {limit} nats since you last looked; "
    "judge the last night's blind pairs (konomi night verdict), then start it again.": (
        "あなたが最後に確かめてからの選択圧が {nats} nat(上限 {limit})に達しているため、夜を始めませんでした。"
        "前の夜の目隠しの組を判定してから(konomi night verdict)、もう一度始めてください。"
    ),
    "The night was not begun: in the last {runs} audits you chose the rater's unit in only {win_rate} of "
    "{pairs} blind pairs, though the rater scored it higher. Grade some images, fit the rater (konomi rater "
    "fit), then start it again.": (
        "予測は上がったのに、最近 {runs} 回の目隠しの判定({pairs} 組)で新しい世代が選ばれたのは {win_rate} だけなので、"
        "夜を始めませんでした。何枚か採点して評価モデルを学習させ(konomi rater fit)、もう一度始めてください。"
    ),
    "The night was not begun: in the last audit you chose the rater's unit in only {win_rate} of {pairs} blind "
    "pairs, though the rater scored it higher. Grade some images, fit the rater (konomi rater fit), then start "
    "it again.": (
        "予測は上がったのに、前回の目隠しの判定({pairs} 組)で新しい世代が選ばれたのは {win_rate} だけなので、"
        "夜を始めませんでした。何枚か採点して評価モデルを学習させ(konomi rater fit)、もう一度始めてください。"
    ),
    "The night was halted before unit-{unit}: no image passed the selection.": (
        "選別を通った画像がないため、unit-{unit} の前に夜を中止しました。"
    ),
    "The night was halted before unit-{unit}: only {share} of its training set are base images; the floor is "
    "{floor}.": ("unit-{unit} の学習集合で元のモデルの画像が {share} しかないため、夜を中止しました(下限 {floor})。"),
    "The night was halted: another version of konomi began it, whose steps are not this one's; what it "
    "promoted last is served. Start a new night, which builds on that.": (
        "別の版の konomi が始めた夜で、手順が今の版と違うため、中止しました。最後に採用した世代がそのまま使われます。"
        "新しい夜を始めると、そこから続きます。"
    ),
    "The night was halted: training unit-{unit} failed ({why}).": (
        "unit-{unit} の学習に失敗したため、夜を中止しました({why})。"
    ),
    "{share} of unit-{unit}'s images almost repeat an image it was trained on; {chance} of the base model's "
    "do by chance.": (
        "unit-{unit} の画像の {share} が学習に使った画像とほぼ同じです(元のモデルでも偶然 {chance} あります)。"
    ),
    "The training set of unit-{unit} has {ratio} of the base model's diversity.": (
        "unit-{unit} の学習集合の多様性は元のモデルの {ratio} です。"
    ),
    "One kind of image makes up {share} of unit-{unit}'s training set.": (
        "unit-{unit} の学習集合の {share} が一種類の画像です。"
    ),
    "{count} new images of the set wait for you: grade them; what you grade below SSR leaves the set before "
    "it grows again.": (
        "集合に加わった {count} 枚が確認を待っています。採点してください。SSR 未満にした画像は、次に集合が育つ前に"
        "外れます。"
    ),
    "One new image of the set waits for you: grade it; if you grade it below SSR, it leaves the set before "
    "the set grows again.": (
        "集合に加わった 1 枚が確認を待っています。採点してください。SSR 未満なら、次に集合が育つ前に外れます。"
    ),
    "{count} images left the set, because you graded them below SSR.": (
        "SSR 未満と採点された {count} 枚を集合から外しました。"
    ),
    "One image left the set, because you graded it below SSR.": "SSR 未満と採点された 1 枚を集合から外しました。",
    "The night made all {units} units it was asked for.": "指定された {units} 世代をすべて作りました。",
    "The night made the one unit it was asked for.": "指定された 1 世代を作りました。",
    "The night ended early: {runs} units in a row did not beat {parent}.": (
        "{runs} 世代続けて{parent}を超えられなかったため、早めに終えました。"
    ),
    "The night ended early: its last unit did not beat {parent}.": (
        "最後の世代が{parent}を超えられなかったため、早めに終えました。"
    ),
    "The night ended: its budget of {budget} images is spent.": "画像の予算 {budget} 枚を使い切ったので終えました。",
    "The night ended: its budget of {budget} h is spent.": "時間の予算 {budget} 時間を使い切ったので終えました。",
    "The night ended: its budget of {budget} h on the accelerator is spent.": (
        "アクセラレーターの予算 {budget} 時間を使い切ったので終えました。"
    ),
    "The night ended: its budget of {budget} GiB of disk is spent.": (
        "ディスクの予算 {budget} GiB を使い切ったので終えました。"
    ),
    "The night ended: golden needs {minimum} images graded UR and has {n}; grade some more.": (
        "golden には UR の画像が {minimum} 枚必要で、今は {n} 枚なので終えました。もう少し採点してください。"
    ),
    "The night ended: the golden set has {n} images, hardly more than the {before} of the last fit.": (
        "UR の画像は {n} 枚で、前回の学習の {before} 枚からほとんど増えていないので終えました。"
    ),
    "The night ended: its images now cover {coverage} of the regions, hardly more than the {before} before.": (
        "画像の届いた領域は {coverage} で、前回の {before} からほとんど広がらないので終えました。"
    ),
    "The night ended: by {n} liked showings only {share} of your likes are still to be found.": (
        "好みと答えた {n} 回から、まだ見つかっていない好みは {share} だけと見積もられるので終えました。"
    ),
    "The night ended: {labels} labels brought no island beside the {islands} found; grade a slate (konomi "
    "label --slate) to go on.": (
        "{labels} 件の採点で新しい島が見つからなかったので終えました(これまでに {islands})。"
        "konomi label --slate で採点すると続けられます。"
    ),
    "The night ended: the set has grown to the {size} images asked for.": (
        "集合が目標の {size} 枚に達したので終えました。"
    ),
    "The night ended: only {share} of the candidates passed the gate, fewer than {floor}; the set has {size} images.": (
        "関門を通った候補が {share} しかなく、{floor} に届かないので終えました。集合は {size} 枚です。"
    ),
    "The night ended: for {runs} turns in a row the candidates moved away from the originals (mean cosine "
    "{cosine}); the set has {size} images.": (
        "{runs} 回続けて候補が元の画像から離れた(平均コサイン {cosine})ので終えました。集合は {size} 枚です。"
    ),
    "The night ended: the candidates moved away from the originals (mean cosine {cosine}); the set has {size} "
    "images.": "候補が元の画像から離れた(平均コサイン {cosine})ので終えました。集合は {size} 枚です。",
    "The night ended: every image the set grew is {depth} generations from the originals already; it has "
    "{size} images.": ("育った画像がすべて元の画像から {depth} 段離れているので終えました。集合は {size} 枚です。"),
    "The night ended: every image the set grew is one generation from the originals already; it has {size} "
    "images.": "育った画像がすべて元の画像から 1 段離れているので終えました。集合は {size} 枚です。",
    "The night was asked to stop; the same command, or konomi night resume, goes on from here.": (
        "停止を指示されました。同じコマンドか konomi night resume で続きから再開します。"
    ),
    "The night was given up.": "この夜は打ち切られました。",
    # what a night is doing
    "starting the services": "サービスを起動中",
    "making the images the truth rests on": "真の評価を測る画像を生成中",
    "making the seed batch": "最初の画像を生成中",
    "the person grades": "本人が採点中",
    "the night": "夜",
    "asking the person for the truth": "本人に真の評価を聞いています",
    "planning": "計画中",
    "generating images": "画像を生成中",
    "looking at what is known": "既知の画像を確認中",
    "selecting": "選別中",
    "training": "学習中",
    "letting the set grow": "集合を育てています",
    "evaluating": "評価用の画像を生成中",
    "predicting grades": "予測中",
    "judging": "判定中",
    "promoting": "採用中",
}
"""What a night says of itself: the sentence of each alarm, and what it is doing."""

REPORT: Mapping[str, str] = {
    # the page, its opening and the figures that matter most
    "{minutes} min {seconds} s": "{minutes} 分 {seconds} 秒",
    "{seconds} s": "{seconds} 秒",
    "{hours} h": "{hours} 時間",
    "{nats} nats": "{nats} nat",
    "Made by konomi. This page needs no network and asks for none.": (
        "konomi が作りました。このページはネットワークを使いません。"
    ),
    "The night's report": "夜のレポート",
    "A night for {name}": "{name} のための一夜",
    "konomi worked alone: it generated, graded as you would, trained on the best, and repeated.": (
        "konomi だけで、画像を作り、あなたの好みで予測し、良いものから学び、それを繰り返しました。"
    ),
    "{name} graded {labels} images. Then konomi worked alone: it generated, graded as {name} would, trained on "
    "the best, and repeated. Below is what {name} truly thinks of each unit.": (
        "{name} が {labels} 枚を採点しました。その後は konomi だけで、画像を作り、{name} の好みで予測し、"
        "良いものから学び、それを繰り返しました。以下は各世代への {name} の本当の評価です。"
    ),
    "In use now": "いま使われるモデル",
    "in use": "使用中",
    "was {value}": "元は {value}",
    "{value} times": "{value} 倍",
    "diversity kept": "保たれた多様性",
    "pairs won against the base model": "元のモデルへの勝率",
    "rater against the truth": "評価モデルと真の評価",
    "Spearman's ρ": "順位相関 ρ",
    "time in all": "全体の時間",
    "of which the night {time}": "うち夜は {time}",
    "intact {share}": "崩れていない画像 {share}",
    # the owner's verdict
    "Your verdict": "あなたの判定",
    "{unit} against {against}, the same prompt and seed on both sides: {answered} of {count} pairs are answered. "
    "Which side is which stays hidden until all are; the rater never learns from them.": (
        "{unit} と{against}を、同じプロンプトとシードで比べます。{count} 組のうち {answered} 組に答えました。"
        "すべて答えるまで左右は明かされません。評価モデルはこの答えから学びません。"
    ),
    "Judge them on the page or with konomi night verdict. Or look here, note L, R or T (equal) for each pair in "
    "turn, and say:": (
        "ページか konomi night verdict で判定できます。ここで見て、各組に L・R・T(同じ)を順に書き、"
        "次のように伝えることもできます。"
    ),
    "Show the pairs ({count})": "{count} 組を見る",
    "{unit} was preferred to {against} in {wins} of {count} pairs, {ties} equal. Blind win rate:": (
        "{count} 組のうち {wins} 組で{against}より {unit} が選ばれました(同じ {ties})。目隠しの勝率:"
    ),
    "It surely wins: keep it.": "確かに勝っています。残すことを勧めます。",
    "It surely loses: roll it back.": "確かに負けています。戻すことを勧めます。",
    "The pairs cannot tell which is better: keep what you like to look at.": (
        "どちらが良いかは組からは決まりません。見て好きなほうを残してください。"
    ),
    "Not decided yet: konomi night verdict --keep, or --roll-back.": (
        "まだ決めていません。konomi night verdict --keep か --roll-back で決めてください。"
    ),
    "Kept: {unit} is in use.": "{unit} を残しました。いま使われています。",
    "Rolled back: {against} is in use.": "戻しました。いま使われるのは{against}です。",
    # since the last night
    "Since the last night": "前の夜からの変化",
    "Rates are the rater's expectation; they can be compared only where the rater's version is the same.": (
        "割合は評価モデルの見込みです。評価モデルの版が同じときだけ比べられます。"
    ),
    "before": "前",
    "now": "今",
    "system": "方式",
    "version of the rater": "評価モデルの版",
    "expected SSR or better": "SSR 以上の見込み",
    "expected UR": "UR の見込み",
    "Vendi score": "Vendi スコア",
    "distance to what is known": "既知の画像からの距離",
    "units made": "作った世代",
    "images made": "作った画像",
    "selection pressure since an audit": "監査からの選択圧",
    "your blind pairs": "目隠しの組",
    "your decision": "あなたの決定",
    "kept": "残した",
    "rolled back": "戻した",
    "open": "未定",
    # sheets
    "What changed": "何が変わったか",
    "Each row is one prompt and one seed, made by every unit.": "各行は同じプロンプトと同じシードです。",
    "(no words)": "(言葉なし)",
    "Side by side": "並べて比べる",
    "Each row is one prompt and one seed, made by every base model.": "各行は同じプロンプトと同じシードです。",
    "Contact sheets": "一覧",
    "The same {count} prompts and seeds for every unit; nothing was picked by looking.": (
        "どの世代も同じ {count} 組のプロンプトとシードで、恣意的に選んではいません。"
    ),
    "The frame is the true grade:": "枠の色は本当の評価です:",
    # curves
    "The curves": "推移",
    "Share of fresh images {name} truly grades SSR or better, and UR": (
        "新しい画像のうち {name} が本当に SSR 以上・UR とする割合"
    ),
    "Share of images the rater expects to be SSR or better, and UR": "評価モデルが SSR 以上・UR と見込む割合",
    "Diversity: effective number of different images (Vendi score)": ("多様性:実質的に異なる画像の数(Vendi スコア)"),
    "floor, {share} of the base model": "下限:元のモデルの {share}",
    "Bars are 95 % intervals over {count} images a unit.": "縦線は各世代 {count} 枚での 95 % 区間です。",
    "95 % intervals where they are known.": "わかるものには 95 % 区間を付けました。",
    "True utility, and what the rater expected": "真の効用と、評価モデルの見込み",
    "truth": "真の評価",
    "the rater's expectation": "評価モデルの見込み",
    "Both as gains in spreads of the base model's images. Where the rater's curve rises and the truth does not, "
    "the rater is being fooled.": (
        "どちらも元のモデルの画像のばらつきを単位とした伸びです。見込みだけが上がるときは、評価モデルが騙されています。"
    ),
    "Novelty: mean distance to the 15 nearest known images": "新しさ:近い既知の画像 15 枚までの平均距離",
    "Distance to the base model (KID ×10³)": "元のモデルからの距離(KID ×10³)",
    "Gap: the rater's gain beyond what supports it, in spreads of the base model": (
        "隔たり:裏付けを超えた予測の伸び(元のモデルのばらつきを単位として)"
    ),
    # the rater of a demo
    "How good the rater is": "評価モデルの質",
    "After {labels} grades, on {count} fresh images of the base model it never saw, against the truth. The short "
    "mark is what a rater without any taste reaches.": (
        "{labels} 枚の採点の後、見たことのない元のモデルの画像 {count} 枚で真の評価と比べました。"
        "短い線は好みをまったく知らない場合の値です。"
    ),
    "ranks as {name} does (Spearman)": "{name} と同じ順に並べる(順位相関)",
    "tells SSR from the rest (AUC)": "SSR 以上を見分ける(AUC)",
    "finds UR first (average precision)": "UR を先に見つける(平均適合率)",
    # the units
    "The units": "各世代",
    "unit": "世代",
    "pairs won": "勝率",
    "doubt σ": "迷い σ",
    "untypical": "非典型",
    "pressure": "選択圧",
    "the beginning": "始まり",
    "promoted": "採用",
    "parent kept": "親を維持",
    "halted": "中止",
    "not finished": "未完",
    "How far each unit moved": "各世代がどれだけ動いたか",
    "Against the base model's images of the same prompts and seeds (for the base model itself: against the "
    "taste's base images), in the rater's embedding.": (
        "同じプロンプトとシードでの元のモデルの画像と比べました(元のモデル自身は、この好みの元の画像と)。"
        "評価モデルの埋め込みで測っています。"
    ),
    "Only {count} images a side: KID and CMMD need 500; read them as a direction.": (
        "片側 {count} 枚しかありません。KID と CMMD は 500 枚以上で信頼でき、これは向きの目安です。"
    ),
    "KID ×10³": "KID ×10³",
    "CMMD ×10³": "CMMD ×10³",
    "precision": "適合率",
    "recall": "再現率",
    "density": "密度",
    "coverage": "被覆率",
    "known likes reached": "既知の好みへの到達",
    "near-copies": "ほぼ同じ画像",
    "largest kind": "最大の種類",
    "evenness": "均等さ",
    "Islands found: {islands}. Chance that the next liked image is of a region not liked before: {unseen}.": (
        "見つかった島:{islands}。次に好かれる画像が未知の領域のものである確率:{unseen}。"
    ),
    "What the rater warns of": "評価モデルの警告",
    # what was selected
    "The strangest": "いちばん変わったもの",
    "The night's images farthest from everything known, and what became of each.": (
        "既知のどれからも遠い、この夜の画像と、それぞれのゆくえです。"
    ),
    "Let into a training set": "学習集合に入ったもの",
    "Turned away": "外されたもの",
    "What was selected, and what was rejected and why": "選ばれたもの、外されたものとその理由",
    "{considered} images considered, {selected} selected by taste; {share} of the training set are base images.": (
        "{considered} 枚から好みで {selected} 枚を選びました。学習集合の {share} は元のモデルの画像です。"
    ),
    "{considered} candidates, {passed} passed the gate, {selected} were taken in: the set has {size} images. "
    "{copies} of the candidates were copies of an original; what the set grew lies at a mean cosine of {cosine} to "
    "its originals, at a depth of {deepest} at most.": (
        "候補 {considered} 枚のうち {passed} 枚が関門を通り、{selected} 枚を加えて集合は {size} 枚になりました。"
        "候補の {copies} は元の画像とほぼ同じでした。育った画像と元の画像の平均コサインは {cosine}、"
        "深さは最大 {deepest} です。"
    ),
    "selected": "選ばれた",
    "image of the base model": "元のモデルの画像",
    "not a candidate": "候補ではない",
    "too like one already kept": "すでに選んだものと似すぎ",
    "unlike anything known": "既知のどれとも似ていない",
    "the rater does not know its kind": "評価モデルの知らない種類",
    "too little evidence for the promise asked for": "求めた保証には証拠が足りない",
    "almost a copy of an image it learnt from": "学習に使った画像とほぼ同じ",
    "moved too far from the originals": "元の画像から離れすぎた",
    "passed, but the set at most doubles": "関門は通ったが、集合は倍までしか育たない",
    "enough like this already": "この種類はもう足りている",
    "not good enough, with the doubt subtracted": "迷いを差し引くと足りない",
    "graded too low by the owner": "本人の採点が低い",
    "source not allowed": "許されない出所",
    "other": "その他",
    # time, cost, identifiers, notes
    "Where the time went": "時間の内訳",
    "work": "作業",
    "What it cost": "かかったもの",
    "working time": "作業時間",
    "on the accelerator": "アクセラレーター",
    "disk": "ディスク",
    "energy": "電力",
    "price": "費用",
    "Where every unit came from": "各世代の由来",
    "Identifiers: every number that names something": "すべての識別子",
    "parent": "親",
    "model": "モデル",
    "adapter": "アダプター",
    "training set": "学習集合",
    "What these figures are, and are not": "この数字が示すもの、示さないもの",
    "Nobody graded this night's images: every rate on this page is the rater's expectation, not your verdict.": (
        "今夜の画像を人は採点していません。このページの割合はすべて評価モデルの見込みです。"
    ),
    "Pairs are won in the rater's eyes, at equal prompts and seeds, with its doubt subtracted.": (
        "勝率は評価モデルから見たもので、同じプロンプトとシードで、迷いを差し引いて比べています。"
    ),
    "The interval of the Vendi score comes from the spread of four disjoint quarters of the images.": (
        "Vendi スコアの区間は、画像を四つに分けた値のばらつきから求めました。"
    ),
    "The person is simulated: a hidden utility over attributes of the picture, read back by an attribute "
    "reader. No human graded anything here.": (
        "この人物は模擬です。画像の属性に対する隠れた効用を、属性読み取り器で読み返しています。人は採点していません。"
    ),
    "The rates are the true ones: fresh images of fixed prompts, graded by the hidden utility itself. konomi "
    "never sees it; it only saw the noisy grades given before the night.": (
        "割合は本当の値です。固定したプロンプトの新しい画像を、隠れた効用そのもので採点しました。"
        "konomi が見たのは夜の前の、揺らぎのある採点だけです。"
    ),
    "The grades are cut at quantiles of the base model's own images, so the base model has about 18 % SSR or "
    "better by construction.": (
        "評価の境目は元のモデルの画像の分位点なので、元のモデルの SSR 以上は作りのうえで約 18 % です。"
    ),
    "Pairs are won in the rater's eyes; only the true rates say whether they were won in the person's.": (
        "勝率は評価モデルから見たものです。本人から見て勝ったかどうかは本当の割合だけが示します。"
    ),
    "Do it again": "もう一度",
    "The same command with the same seed makes the same images on the same machine.": (
        "同じマシンで同じコマンドとシードなら、同じ画像になります。"
    ),
    "This is night {night}.": "この夜の識別子は {night} です。",
}
"""The report of a night."""

JAPANESE: Mapping[str, str] = {
    **REPORT,
    **ALARMS,
    **MODELS,
    **CONCEPTS,
    **DATASETS,
    **COMPARE,
    **EMBEDDER,
    **RATER,
    **SPOKEN,
    **SCORE,
    **SOURCES,
    **NIGHT,
    **VERDICT,
    **IMAGES,
    **TERMINAL,
    # the line of each command
    "Learn one person's taste in images, and work through the night.": "ひとりの好みを学び、夜のあいだに働きます。",
    "Example:": "例:",
    "Start rater, generator, trainer and the page here; Ctrl-C stops cleanly.": (
        "このマシンで rater・generator・trainer とページを起動します。Ctrl-C で安全に止まります。"
    ),
    "Say what is missing or unsafe here, and the line that fixes each.": (
        "足りないもの・危険なものと、それぞれを直す一行を示します。"
    ),
    "Run the main job, start to end, with a simulated person.": "模擬の評価者を使い、始めから終わりまでを実演します。",
    "Open the page and grade, or move grades to and from files.": (
        "ページを開いて採点します。採点のファイルへの書き出し・読み込みもできます。"
    ),
    "Fit a new rater version, or show how good it is.": "rater の新しい版を学習し、または品質を表示します。",
    "Grade a folder the way the owner would.": "持ち主の好みでフォルダーの画像を採点します。",
    "Find images far from everything known, worth a look.": "既知のどれからも遠い、見る価値のある画像を探します。",
    "Plan, start, watch, stop and report the overnight loop.": "夜間ループの計画・開始・監視・停止・報告。",
    "List, show, compare, export, merge, fetch and roll back models.": (
        "モデルの一覧・表示・比較・書き出し・統合・取得・巻き戻し。"
    ),
    # options
    "The only folder where state lives.": "すべての状態を置く唯一のフォルダー。",
    "Language of help and messages.": "ヘルプとメッセージの言語。",
    "Show the version.": "版を表示します。",
    "Print one JSON object as the last line of standard output.": "標準出力の最後の行に JSON を一つ出します。",
    "The taste, by its id.": "好み(taste)の id。",
    "Port to listen on; 0 takes any free one.": "待ち受けるポート。0 なら空いているもの。",
    "Folders, zips or images.": "フォルダー・zip・画像。",
    "Licence of the images, as an SPDX id or free text.": "画像のライセンス(SPDX の id または文章)。",
    "Write the grades in force to it.": "有効な採点をこのファイルに書き出します。",
    "Record the grades of a file written by --export.": "--export が書いたファイルの採点を記録します。",
    "Seed of folds and bootstrap.": "分割とブートストラップのシード。",
    "Do not let the new version score yet.": "新しい版をまだ採点に使いません。",
    "The version, by its id; the one that scores where none is given.": "版の id。省くと採点に使われている版。",
    "Also write the predictions beside the images.": "予測を画像の隣にも書きます。",
    "How many images.": "画像の枚数。",
    "Also write the images there, to look at.": "画像をそこにも書き出します。",
    "A model, by its name or id.": "モデルの名前または id。",
    "Models, by name or id.": "モデルの名前または id。",
    "Two models or more, by name or id.": "二つ以上のモデルの名前または id。",
    "Name of the merged model.": "統合したモデルの名前。",
    "Where to write it.": "書き出し先。",
    "For kohya read A1111, Forge and ComfyUI.": "kohya は A1111・Forge・ComfyUI 用です。",
    # longer help
    "The page is opened by a link that works once; what is missing is started, and runs until Ctrl-C. In page and "
    "terminal 1 to 5 grade N, R, SR, SSR, UR; 0 clears, z undoes, space skips, q quits the terminal. Each key is "
    "durable before the next image. A terminal shows the picture itself, by kitty's protocol, sixels or coloured "
    "blocks, whichever it knows. With --terminal but no terminal one key is read per line.": (
        "一度だけ使えるリンクでページを開きます。足りないものは起動し、Ctrl-C まで動かします。ページでも端末でも "
        "1〜5 で N・R・SR・SSR・UR、0 で消去、z で取り消し、空白で飛ばし、端末では q で終了。"
        "次の画像の前に必ず保存されます。"
        "端末には画像そのものを、kitty の方式・sixel・色付きブロックのうち使えるもので表示します。"
        "--terminal で端末でないときは一行に一つのキーを読みます。"
    ),
    "Grade here instead of in the browser.": "ブラウザーではなくここで採点します。",
    "no page: not installed: {module}; run: {line}": "ページなし: {module} がありません。次を実行: {line}",
    "no browser was found: open the link by hand, or say `konomi label --terminal`": (
        "ブラウザーが見つかりません。リンクを手で開くか、`konomi label --terminal` を使ってください"
    ),
    "Fit a new rater version on the labels and let it score from now on.": (
        "採点から rater の新しい版を学習し、以後の採点に使います。"
    ),
    "Show a rater version's quality with 95 % intervals, and its alarms.": (
        "rater の版の品質を 95 % 区間つきで、警告とともに表示します。"
    ),
    "Grade a folder the way the owner would: best lower bound first, every grade with its doubt.": (
        "持ち主の好みで採点します。下限の高い順に、どの点も不確かさつきで示します。"
    ),
    "Find images far from everything known, worth a look: most novel first.": (
        "既知のどれからも遠い、見る価値のある画像を、新しさの順に探します。"
    ),
    "List the units of a taste, newest first; the current one is marked.": (
        "好みの号機を新しい順に並べます。現在のものに印が付きます。"
    ),
    "Show where a model came from: base, parents, data, rater version, seed.": (
        "モデルの由来(ベース・親・データ・rater の版・シード)を表示します。"
    ),
    "Compare models or base models under a taste.": "好みのもとでモデルやベースモデルを比べます。",
    "Write a model as a file that other tools load.": "他のツールが読めるファイルとしてモデルを書き出します。",
    "Merge models into a new one.": "モデルを一つに統合します。",
    "Return to the model that was current before; to the base model when there was none.": (
        "ひとつ前のモデルに戻します。なければベースモデルに戻ります。"
    ),
    "Get a known embedder or base model once; the only command that uses the network.": (
        "既知のモデルを一度だけ取得します。ネットワークを使う唯一のコマンドです。"
    ),
    # running
    "starting on {home}, which takes some seconds…": "{home} で起動しています。数秒かかります…",
    "ready at {time}; Ctrl-C stops everything": "{time} 準備完了。Ctrl-C ですべて止まります",
    "stopping…": "停止しています…",
    "stopped before everything was up": "起動が終わる前に止めました",
    "importing": "取り込み中",
    "scoring": "採点中",
    "fitting": "学習中",
    "{added} added, {known} known already, {failed} refused": "追加 {added}、既知 {known}、拒否 {failed}",
    "{count} grades written to {file}": "{count} 件の採点を {file} に書きました",
    "{count} grades recorded": "{count} 件の採点を記録しました",
    "{labels} graded, {undone} undone, {skipped} skipped": "採点 {labels}、取り消し {undone}、飛ばし {skipped}",
    "nothing left to grade: make or import more images": "採点する画像がありません。生成するか取り込んでください",
    "nothing novel and plausible yet: make or import more images": (
        "新しくてもっともらしい画像がまだありません。生成するか取り込んでください"
    ),
    "1 N · 2 R · 3 SR · 4 SSR · 5 UR · 0 clear · z undo · space skip · q quit": (
        "1 N · 2 R · 3 SR · 4 SSR · 5 UR · 0 消去 · z 取り消し · 空白 飛ばし · q 終了"
    ),
    "image {digest} in {path}{caption}": "画像 {digest}: {path}{caption}",
    "current: {name}": "現在: {name}",
    "current: the base model itself": "現在: ベースモデルそのもの",
    "merged into {name}": "{name} に統合しました",
    "{file}: {size} bytes, sha256 {digest}": "{file}: {size} バイト、sha256 {digest}",
    "{name}: {labels} labels, head {head}": "{name}: 採点 {labels} 件、ヘッド {head}",
    # tables
    "image": "画像",
    "grade": "等級",
    "utility": "効用 / utility",
    "lower bound": "下限 / lower bound",
    "typicality": "典型性 / typicality",
    "novelty": "新しさ / novelty",
    "prompt": "プロンプト",
    "figure": "指標",
    "value": "値",
    "95 % interval": "95 % 区間",
    "meaning": "意味",
    "name": "名前",
    "base model": "ベースモデル",
    "made": "作成",
    "figures": "指標",
    "rank agreement with your grades": "あなたの採点との順位の一致",
    "telling SSR and UR from the rest": "SSR・UR とその他の見分け",
    "finding UR": "UR を見つける力",
    "finding SSR and UR": "SSR・UR を見つける力",
    "agreement on the grade itself": "等級そのものの一致",
    "error of the probabilities (lower is better)": "確率の誤差(小さいほど良い)",
    "miscalibration (lower is better)": "較正のずれ(小さいほど良い)",
    "you against yourself": "あなた自身との一致",
    # errors
    "error": "エラー",
    "expected a value after {option}": "{option} の後に値が必要です",
    "expected --lang en or ja, got {lang}": "--lang は en か ja です。{lang} は使えません",
    "not installed: {module}; run: {line}": "{module} がインストールされていません。実行: {line}",
    "expected one of --export and --import, got both": "--export と --import は同時に使えません",
    "expected one of 0-5, z, space and q on each line, got {key!r}": (
        "各行には 0〜5、z、空白、q のどれかが必要です。{key!r} は使えません"
    ),
    "expected two models or more, got {count}": "モデルは二つ以上必要です({count} 個でした)",
    "there is no model {name} in this taste; see `konomi models list`": (
        "この好みに {name} というモデルはありません。`konomi models list` を見てください"
    ),
    # doctor
    "nothing stands in the way": "問題はありません",
    "put right what is marked FAIL": "FAIL の項目を直してください",
    "installed": "インストール済み",
    "not installed: {modules}": "未インストール: {modules}",
    "not installed yet; `konomi up` does it": "未インストール。`konomi up` が行います",
    "pysqlite3 is not installed": "pysqlite3 がありません",
    "{found} can corrupt a database; at least {wanted}": (
        "{found} はデータベースを壊すおそれがあります。{wanted} 以上が必要です"
    ),
    "{path} cannot be written": "{path} に書き込めません",
    "export KONOMI_HOME=FOLDER, one that you own": "export KONOMI_HOME=自分のフォルダー",
    "export KONOMI_HOME=FOLDER, one on a local disk": "export KONOMI_HOME=ローカルディスクのフォルダー",
    "{free:.1f} GiB free": "空き {free:.1f} GiB",
    "free at least 2 GiB, or move the home with KONOMI_HOME": "2 GiB 以上空けるか、KONOMI_HOME で移してください",
    "a long night wants 10 GiB": "長い夜には 10 GiB ほしいところです",
    "{kind} is a network filesystem": "{kind} はネットワークのファイルシステムです",
    "unknown": "不明",
    "readable": "読めます",
    "none, defaults apply": "なし(既定値)",
    "correct {path}": "{path} を直してください",
    "none yet; the first start makes one": "まだありません。最初の起動で作られます",
    "others can read it (mode {mode:o})": "他人が読めます(モード {mode:o})",
    "mode {mode:o}": "モード {mode:o}",
    "it stands before the newest database": "最新のデータベースより前を指しています",
    "none: fine for the starter models, slow for larger ones": "なし。スターターには十分、大きなモデルには遅いです",
    "nvidia-smi does not answer": "nvidia-smi が応答しません",
    "restart the machine's driver": "ドライバーを再起動してください",
    "{names}, but torch cannot use it": "{names}(torch から使えません)",
    "not running": "動いていません",
    "asked when the services run": "サービスの起動中に調べます",
    "fits the images of every taste": "どの好みの画像にも合っています",
}
