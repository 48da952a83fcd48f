"""The Japanese of what `konomi score` says."""

from collections.abc import Mapping

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
