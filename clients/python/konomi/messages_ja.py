"""The Japanese of help and messages, by their English; tests hold it against what the commands say."""

from collections.abc import Mapping

from konomi.messages_ja_compare import COMPARE
from konomi.messages_ja_concepts import CONCEPTS
from konomi.messages_ja_embedder import EMBEDDER
from konomi.messages_ja_models import MODELS
from konomi.messages_ja_rater import RATER
from konomi.messages_ja_score import SCORE

JAPANESE: Mapping[str, str] = {
    **MODELS,
    **CONCEPTS,
    **COMPARE,
    **EMBEDDER,
    **RATER,
    **SCORE,
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
    "Make images of any origin known: folders, files, zips.": (
        "画像を取り込みます。フォルダー・ファイル・zip のどれでもかまいません。"
    ),
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
    "PNG, JPEG and WebP are read; the originals are never written. Prompts are read from PNG infotext.": (
        "PNG・JPEG・WebP を読みます。元のファイルには書き込みません。プロンプトは PNG の infotext から読みます。"
    ),
    "The page is opened by a link that works once; what is missing is started, and runs until Ctrl-C. In page and "
    "terminal 1 to 5 grade N, R, SR, SSR, UR; 0 clears, z undoes, space skips, q quits the terminal. Each key is "
    "durable before the next image. With --terminal but no terminal one key is read per line.": (
        "一度だけ使えるリンクでページを開きます。足りないものは起動し、Ctrl-C まで動かします。ページでも端末でも "
        "1〜5 で N・R・SR・SSR・UR、0 で消去、z で取り消し、空白で飛ばし、端末では q で終了。"
        "次の画像の前に必ず保存されます。"
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
    # the morning's message
    "receiver {number} of [notify] urls is no address apprise knows": (
        "[notify] urls の {number} 番目は apprise の知らない宛先です"
    ),
    "konomi: {unit} is served this morning": "konomi: 今朝のモデルは {unit} です",
    "to take the last unit back: konomi models rollback": "最後の世代を取り消すには: konomi models rollback",
    "the message could not be delivered yet; it is kept and tried again": (
        "通知はまだ届いていません。保管してあり、あとで再び送ります"
    ),
    "{units} units, {images} images, {training_steps} training steps": (
        "{units} 世代、画像 {images} 枚、学習 {training_steps} ステップ"
    ),
    "about {size:.0f} MB of disk": "ディスク約 {size:.0f} MB",
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
