"""The Japanese of shell completion, of the terminal's preview, and of what `konomi doctor` sees around a home."""

from collections.abc import Mapping

TERMINAL: Mapping[str, str] = {
    # completion
    "Install completion for the current shell.": "使用中のシェルに補完を設定します。",
    "Show completion for the current shell, to copy it or customize the installation.": (
        "使用中のシェルの補完スクリプトを表示します。自分で設定するときに。"
    ),
}
