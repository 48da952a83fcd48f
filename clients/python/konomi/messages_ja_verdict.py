"""The Japanese of what `konomi night verdict` says."""

from collections.abc import Mapping

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
