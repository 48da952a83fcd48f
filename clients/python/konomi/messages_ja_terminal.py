"""The Japanese of shell completion, of the terminal's preview, and of what `konomi doctor` sees around a home."""

from collections.abc import Mapping

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
