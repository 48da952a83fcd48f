"""The Japanese of help and messages, by their English; tests hold it against what the commands say."""

from collections.abc import Mapping

from konomi.messages_ja_compare import COMPARE
from konomi.messages_ja_concepts import CONCEPTS
from konomi.messages_ja_datasets import DATASETS
from konomi.messages_ja_embedder import EMBEDDER
from konomi.messages_ja_images import IMAGES
from konomi.messages_ja_models import MODELS
from konomi.messages_ja_night import NIGHT
from konomi.messages_ja_rater import RATER
from konomi.messages_ja_score import SCORE
from konomi.messages_ja_sources import SOURCES
from konomi.messages_ja_terminal import TERMINAL
from konomi.messages_ja_verdict import VERDICT

JAPANESE: Mapping[str, str] = {
    **MODELS,
    **CONCEPTS,
    **DATASETS,
    **COMPARE,
    **EMBEDDER,
    **RATER,
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
