"""What a night says, in English and Japanese: one plain sentence per alarm, and the names of what it does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Alarm:
    """One reason. `name` finds its sentence, `numbers` fills it."""

    name: str
    numbers: dict[str, float | str] = field(default_factory=dict)


class Ended(Exception):
    """The night is over: why, and whether a guard halted it."""

    def __init__(self, alarm: Alarm, state: str = "finished", night: bool = False) -> None:
        """Takes why, "finished" or "halted", and whether a stage that follows ends with it."""
        super().__init__(alarm.name)
        self.alarm = alarm
        self.state = state
        self.night = night


BOUNDS = ("floor", "limit")
"""Numbers of an alarm that the others are held against."""
MOST_DIGITS = 6


class Apart(float):
    """A number that reads like its bound only where six digits do not tell them apart: 64.6 %, the floor being 65 %."""

    bound: float

    def __new__(cls, value: float, bound: float) -> "Apart":
        """Takes the number and what it is held against."""
        made = super().__new__(cls, value)
        made.bound = bound
        return made

    def __format__(self, spec: str) -> str:
        """Formats like any number, with the digits of the spec or as many more as are needed."""
        head, point, tail = spec.partition(".")
        if not point or not tail[:-1].isdecimal():
            return format(float(self), spec)
        digits = int(tail[:-1])
        for more in range(digits, MOST_DIGITS + 1):
            told = f"{head}.{more}{tail[-1]}"
            if format(float(self), told) != format(self.bound, told):
                return format(float(self), told)
        return format(float(self), spec)


def apart(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an alarm's numbers so that none of them is rounded onto its floor or limit."""
    bound = next((numbers[name] for name in BOUNDS if isinstance(numbers.get(name), int | float)), None)
    if bound is None:
        return dict(numbers)
    return {
        name: Apart(value, bound) if isinstance(value, float) and name not in BOUNDS else value
        for name, value in numbers.items()
    }


ROUNDED_SENTENCES: dict[str, dict[str, str]] = {
    "en": {
        "taught": "unit-{unit} was promoted: it knows the words that were taught ({words}).",
        "target": "The night ended: the set has grown to the {size:.0f} images asked for.",
        "acceptance": "The night ended: only {share:.0%} of the candidates passed the gate, fewer than {floor:.0%}; "
        "the set has {size:.0f} images.",
        "drift": "The night ended: for {runs} turns running the candidates moved away from the originals (mean cosine "
        "{cosine:.2f}); the set has {size:.0f} images.",
        "depth_cap": "The night ended: every image the set grew is {depth:.0f} generations from the originals already; "
        "it has {size:.0f} images.",
        "confirm": "{count:.0f} new images of the set wait for you: grade them; what you grade below SSR leaves the "
        "set before it grows again.",
        "removed": "{count:.0f} images left the set, because you graded them below SSR.",
    },
    "ja": {
        "taught": "unit-{unit} を採用しました。教えた言葉({words})を知っています。",
        "target": "集合が目標の {size:.0f} 枚に達したので終えました。",
        "acceptance": "関門を通った候補が {share:.0%} しかなく、{floor:.0%} に届かないので終えました。"
        "集合は {size:.0f} 枚です。",
        "drift": "{runs} 回続けて候補が元の画像から離れた(平均コサイン {cosine:.2f})ので終えました。"
        "集合は {size:.0f} 枚です。",
        "depth_cap": "育った画像がすべて元の画像から {depth:.0f} 世代離れているので終えました。"
        "集合は {size:.0f} 枚です。",
        "confirm": "集合に加わった {count:.0f} 枚が確認を待っています。採点してください。SSR 未満にした画像は、"
        "次に集合が育つ前に外れます。",
        "removed": "SSR 未満と採点された {count:.0f} 枚を集合から外しました。",
    },
}
"""Language to name of an alarm to its sentence."""


SENTENCES: dict[str, dict[str, str]] = {
    "en": {
        "better": "unit-{unit} was promoted: in the rater's eyes it won {win_rate:.0%} of the pairs against {parent}.",
        "not_better": "{parent} stays: unit-{unit} won only {win_rate:.0%} of the pairs against it.",
        "unchanged": "unit-{unit} was not promoted: it makes exactly the images its parent makes.",
        "not_finite": "The night was halted: unit-{unit} makes images whose scores are not numbers.",
        "other_rater": "The night was halted at unit-{unit}: another rater version became active, "
        "so its figures cannot be compared.",
        "diversity": "The night was halted: unit-{unit} keeps only {ratio:.0%} of the base model's diversity; "
        "the floor is {floor:.0%}.",
        "exceedance": "The night was halted: {share:.0%} of unit-{unit}'s images are unlike anything known; "
        "the limit is {limit:.0%}.",
        "doubt": "The night was halted: the rater doubts unit-{unit}'s images {ratio:.1f} times as much as the base "
        "model's; the limit is {limit:.1f}.",
        "coverage": "The night was halted: unit-{unit} reaches only {share:.0%} of the liked regions the base model "
        "reaches; the floor is {floor:.0%}.",
        "near_copies": "{share:.0%} of unit-{unit}'s images almost repeat an image it was trained on; {chance:.0%} of "
        "the base model's do by chance.",
        "gap": "The night was halted: for {runs} units running the rater's own score rose faster than what supports "
        "it, which is how a rater gets fooled.",
        "pressure": "The night was halted before unit-{unit}: its selection would bring the pressure to {nats:.1f} "
        "nats; a person has to look after {limit:.1f}.",
        "pressure_spent": "The night was not begun: the rater's choices have spent {nats:.1f} of {limit:.1f} nats "
        "since you last looked; judge the last night's blind pairs (`konomi night verdict`), then start it again.",
        "audit_gap": "The night was not begun: in the last {runs} audits you chose the rater's unit in only "
        "{win_rate:.0%} of {pairs:.0f} blind pairs, though the rater scored it higher. Grade some images, fit the "
        "rater (`konomi rater fit`), then start it again.",
        "nothing_selected": "The night was halted before unit-{unit}: no image passed the selection.",
        "base_share": "The night was halted before unit-{unit}: only {share:.0%} of its training set are base images; "
        "the floor is {floor:.0%}.",
        "other_version": "The night was halted: another version of konomi began it, whose steps are not this one's; "
        "what it promoted last is served. Start a new night, which builds on that.",
        "training_failed": "The night was halted: training unit-{unit} failed ({why}).",
        "golden_diversity": "The training set of unit-{unit} has {ratio:.0%} of the base model's diversity.",
        "largest_cell": "One kind of image makes up {share:.0%} of unit-{unit}'s training set.",
        "patience": "The night ended early: {runs} units running did not beat {parent}.",
        "budget_images": "The night ended: its budget of {budget:,.0f} images is spent.",
        "budget_hours": "The night ended: its budget of {budget:g} hours is spent.",
        "budget_gpu_hours": "The night ended: its budget of {budget:g} hours on the accelerator is spent.",
        "budget_disk": "The night ended: its budget of {budget:g} GiB of disk is spent.",
        "too_few_ur": "The night ended: only {n:.0f} images are graded UR and golden needs {minimum:.0f}; "
        "grade some more.",
        "golden_flat": "The night ended: the golden set has {n:.0f} images, hardly more than the {before:.0f} of the "
        "last fit.",
        "longtail_flat": "The night ended: its images now cover {coverage:.0%} of the regions, hardly more than the "
        "{before:.0%} before.",
        "unseen_likes": "The night ended: by {n:.0f} liked showings only {share:.0%} of your likes are still to be "
        "found.",
        "no_islands": "The night ended: {labels:.0f} labels brought no island beside the {islands:.0f} found; grade a "
        "slate with `konomi label --slate` to go on.",
        "units": "The night made every unit it was asked for: {units:.0f}.",
        "stopped": "The night was asked to stop; the same command, or `konomi night resume`, goes on from here.",
        "abandoned": "The night was given up.",
        "base": "the base model",
        "unit": "unit-{unit}",
    },
    "ja": {
        "better": "unit-{unit} を採用しました。{parent} とのペア比較の勝率は {win_rate:.0%} です。",
        "not_better": "{parent} を残しました。unit-{unit} の勝率は {win_rate:.0%} にとどまりました。",
        "unchanged": "unit-{unit} は採用しませんでした。親とまったく同じ画像を作ります。",
        "not_finite": "unit-{unit} の画像の評価が数値にならないため、夜を中止しました。",
        "other_rater": "評価モデルの版が変わり、unit-{unit} の値を比べられないため、夜を中止しました。",
        "diversity": "unit-{unit} の多様性が元のモデルの {ratio:.0%} まで下がったため、夜を中止しました"
        "(下限 {floor:.0%})。",
        "exceedance": "unit-{unit} の画像の {share:.0%} が既知のどれとも似ていないため、夜を中止しました"
        "(上限 {limit:.0%})。",
        "doubt": "unit-{unit} に対する評価の迷いが元のモデルの {ratio:.1f} 倍になったため、夜を中止しました"
        "(上限 {limit:.1f} 倍)。",
        "coverage": "unit-{unit} は、元のモデルが届く好みの領域の {share:.0%} にしか届かないため、夜を中止しました"
        "(下限 {floor:.0%})。",
        "near_copies": "unit-{unit} の画像の {share:.0%} が学習に使った画像とほとんど同じです(元のモデルでも偶然 "
        "{chance:.0%} あります)。",
        "gap": "{runs} 世代続けて、裏付けのないまま評価だけが上がったため、夜を中止しました。",
        "pressure": "unit-{unit} の選別で選択圧が {nats:.1f} nat になるため、その前に夜を中止しました"
        "(人の確認なしの上限 {limit:.1f})。",
        "pressure_spent": "人が最後に確かめてからの選択圧が {nats:.1f} nat(上限 {limit:.1f})に達しているため、"
        "夜を始めませんでした。"
        "前の夜の目隠しの組を判定してから(`konomi night verdict`)、もう一度始めてください。",
        "audit_gap": "評価は上がったのに、最近 {runs} 回の目隠しの判定({pairs:.0f} 組)で新しい世代が選ばれたのは "
        "{win_rate:.0%} だけなので、夜を始めませんでした。何枚か採点して評価モデルを作り直し(`konomi rater fit`)、"
        "もう一度始めてください。",
        "nothing_selected": "選別を通った画像がないため、unit-{unit} の前に夜を中止しました。",
        "base_share": "unit-{unit} の学習集合で元のモデルの画像が {share:.0%} しかないため、夜を中止しました"
        "(下限 {floor:.0%})。",
        "other_version": "別の版の konomi が始めた夜で、手順が今の版と違うため、中止しました。最後に採用した世代が"
        "そのまま使われます。新しい夜を始めると、そこから続きます。",
        "training_failed": "unit-{unit} の学習に失敗したため、夜を中止しました({why})。",
        "golden_diversity": "unit-{unit} の学習集合の多様性は元のモデルの {ratio:.0%} です。",
        "largest_cell": "unit-{unit} の学習集合の {share:.0%} が一種類の画像です。",
        "patience": "{runs} 世代続けて {parent} を超えられなかったため、早めに終えました。",
        "budget_images": "画像の予算 {budget:,.0f} 枚を使い切ったので終えました。",
        "budget_hours": "時間の予算 {budget:g} 時間を使い切ったので終えました。",
        "budget_gpu_hours": "アクセラレーターの予算 {budget:g} 時間を使い切ったので終えました。",
        "budget_disk": "ディスクの予算 {budget:g} GiB を使い切ったので終えました。",
        "too_few_ur": "UR の画像が {n:.0f} 枚しかなく、golden に要る {minimum:.0f} 枚に足りないので終えました。"
        "もう少し採点してください。",
        "golden_flat": "UR の画像は {n:.0f} 枚で、前回の学習の {before:.0f} 枚からほとんど増えていないので終えました。",
        "longtail_flat": "画像の届いた領域は {coverage:.0%} で、前回の {before:.0%} からほとんど広がらないので"
        "終えました。",
        "unseen_likes": "好みと答えた {n:.0f} 回から、まだ見つかっていない好みは {share:.0%} と"
        "見積もられるので終えました。",
        "no_islands": "{labels:.0f} 件の採点で新しい島が見つからなかったので終えました(これまでに {islands:.0f})。"
        "`konomi label --slate` で採点すると続けられます。",
        "units": "頼まれた {units:.0f} 世代を作り終えました。",
        "stopped": "停止を頼まれました。同じコマンドか `konomi night resume` で続きから再開します。",
        "abandoned": "この夜は打ち切られました。",
        "base": "元のモデル",
        "unit": "unit-{unit}",
    },
}
"""Language to name of an alarm to its sentence."""

WORK: dict[str, dict[str, str]] = {
    "en": {
        "services": "starting the services",
        "reference": "making the images the truth rests on",
        "pool": "making the seed batch",
        "label": "the person grades",
        "night": "the night",
        "truth": "asking the person for the truth",
        "plan": "planning",
        "generate": "generating images",
        "observe": "looking at what is known",
        "select": "selecting",
        "train": "training",
        "grow": "letting the set grow",
        "evaluate": "evaluating",
        "score": "scoring",
        "judge": "judging",
        "serve": "promoting",
    },
    "ja": {
        "services": "サービスを起動中",
        "reference": "真実を測る画像を生成中",
        "pool": "最初の画像を生成中",
        "label": "採点中(本人)",
        "night": "夜",
        "truth": "本人に真実を聞いています",
        "plan": "計画中",
        "generate": "画像を生成中",
        "observe": "既知の画像を確認中",
        "select": "選別中",
        "train": "学習中",
        "grow": "集合を育てています",
        "evaluate": "評価用画像を生成中",
        "score": "採点中",
        "judge": "判定中",
        "serve": "採用中",
    },
}
"""Language to kind of step to what a person reads while it runs."""


def sentence(alarm: Alarm | dict[str, object], language: str = "en") -> str:
    """Returns the one plain sentence of an alarm."""
    name = alarm.name if isinstance(alarm, Alarm) else str(alarm["name"])
    numbers = dict(alarm.numbers) if isinstance(alarm, Alarm) else dict(alarm["numbers"])  # type: ignore[call-overload]
    words = SENTENCES["ja" if language.startswith("ja") else "en"]
    words = words | ROUNDED_SENTENCES["ja" if language.startswith("ja") else "en"]
    if "parent" in numbers:
        parent = int(numbers["parent"])
        numbers["parent"] = words["unit"].format(unit=parent) if parent else words["base"]
    text = words[name].format(**apart(numbers))
    return text[0].upper() + text[1:] if not text.startswith("unit-") else text


def work(step: str, language: str = "en") -> str:
    """Returns what a step does, for example "unit-1 · training" for "unit-1/train"."""
    words = WORK["ja" if language.startswith("ja") else "en"]
    unit, _, kind = step.rpartition("/")
    doing = words.get(kind.split("-")[0], kind)
    return f"{unit} · {doing}" if unit else doing
