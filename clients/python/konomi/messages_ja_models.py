"""The Japanese of `konomi models import` and `konomi models fetch`, by their English."""

from collections.abc import Mapping

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
