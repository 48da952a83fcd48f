"""The Japanese of what `konomi night` and `konomi demo` say."""

from collections.abc import Mapping

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
