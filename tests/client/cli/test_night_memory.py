"""What a night takes of the device: said by `models show` and `night plan`, in words and as JSON."""

import pytest

from konomi.cli.models.night_memory import show_memory
from konomi.v1 import generator_pb2 as generator

REDUCED = (
    "a night fits with fewer images at once and parts that wait: 12.0 GiB as it is set, 7.0 GiB at the least, of the "
    "8.0 GiB of this machine's cuda"
)


def test_both_commands_say_it(live):
    for words in (("models", "show", "starter"), ("night", "plan", "converge")):
        shown = live.run(*words).stdout
        rows = [line.split() for line in shown.splitlines()]
        assert ["generator", "7.0", "GiB", "10.0", "GiB", "4.0", "GiB"] in rows
        assert REDUCED in shown
        memory = live.json(*words)["memory"]
        assert (memory["fit"], memory["device_bytes"], memory["least_bytes"]) == ("REDUCED", 8 << 30, 7 << 30)
    assert "夜は収まります" in live.run("night", "plan", "converge", "--lang", "ja").stdout


def test_a_plan_without_konomi_says_how_to_know(command_line):
    done = command_line.run("night", "plan", "converge", "--json")
    assert done.returncode == 0 and "memory" not in done.stdout
    assert "is known while konomi runs: konomi up" in done.stderr


@pytest.mark.parametrize(
    ("fit", "sentence"),
    [
        (generator.NIGHT_FIT_WHOLE, "a night fits: at most 2.0 GiB of the 4.0 GiB of this machine's cpu at once"),
        (
            generator.NIGHT_FIT_NONE,
            "a night does not fit: it takes 1.0 GiB at the least, and this machine's cpu has 4.0 GiB; choose a smaller "
            "base model",
        ),
    ],
)
def test_the_verdict_has_numbers(fit, sentence, capsys):
    gib = 1 << 30
    show_memory(generator.NightMemory(device="cpu", device_bytes=4 * gib, peak_bytes=2 * gib, least_bytes=gib, fit=fit))
    assert sentence in capsys.readouterr().out
