"""Thirty infotexts of other tools become the conditions that A1111's published way of reading prompts gives.

The reference below is written from that description alone and in another way than konomi's: it walks a prompt character
by character, keeps a weight for each, and encodes one chunk at a time through encoders cut short by a layer.
"""

import copy

import pytest
import torch

from konomi.client.infotext import parse_infotext
from konomi.datasets.prompts import said_by
from konomi_chassis.models.prompt_encoder import PromptEncoder
from konomi_generator.backends.diffusers.text_conditioning import Texts
from konomi_generator.sampling import Sampling
from tests.generator import tiny_models

END = "\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: m, Version: v1.10.1"
FORGE = "\nSteps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 9, Size: 832x1216, Version: f2.0.1"
TAGS = (
    "masterpiece, best quality, highly detailed, 1girl, solo, long silver hair, blue eyes, school uniform, skirt,"
    " cherry blossoms, falling petals, wind, looking at viewer, smile, blush, outdoors, spring day, sunlight,"
    " depth of field, bokeh, lens flare, cinematic lighting, sharp focus, intricate, 8k wallpaper, absurdres, highres,"
    " official art, unity 8k, beautiful detailed face, detailed background, light particles, volumetric light"
)
BAD = (
    "(worst quality, low quality:1.4), (bad anatomy), [[blurry]], extra fingers, mutated hands, ((poorly drawn face)), "
    "signature, watermark, username, jpeg artifacts, cropped, text, error, missing arms, extra legs, fused fingers, "
    "too many fingers, long neck, bad proportions, gross proportions, deformed, ugly, disfigured, out of frame"
)
INFOTEXTS = {
    "plain words": f"a photograph of an astronaut riding a horse{END}",
    "no words at all": END,
    "one bracket": f"a (red) cat{END}",
    "a weight": f"a (red:1.3) cat on a (mat:0.6){END}",
    "nested": f"(((masterpiece))), ((best quality)), (1girl), [[simple background]]{END}",
    "weights in brackets": f"(a (very:1.2) [small] house:1.1) by the (sea:.8){END}",
    "square brackets": f"[low contrast], [[fog]], castle, [[[ruins]]]{END}",
    "escaped": rf"ganyu \(genshin impact\), \[horns\], back\\slash, (bell \(object\):1.2){END}",
    "unclosed round": f"a cat, (blue eyes, [long tail, night{END}",
    "unclosed after a weight": f"((a cat:1.2), sky, (stars{END}",
    "unopened": f"a cat), dog], :1.2), bird:{END}",
    "crossing": f"(a [cat) sits] here (and (there:1.3] now){END}",
    "long tags": f"{TAGS}{END}",
    "long tags and a long negative": f"{TAGS}, (sunset:1.2)\nNegative prompt: {BAD}{FORGE}",
    "a negative longer than the prompt": f"cat\nNegative prompt: {BAD}, {BAD}{END}",
    "no comma near a chunk's end": f"{'very ' * 90}tall tower, at dusk{END}",
    "a comma as the 76th token": f"{'word ' * 75}, after, the, comma{END}",
    "a comma as the 75th token": f"{'word ' * 74}, next words go on{END}",
    "a weight across a chunk's end": f"{'dog, ' * 34}(a very long description of fur, of paws, of ears:1.25), end{END}",
    "BREAK": f"a red room BREAK a (blue:1.2) door BREAK [green] floor{END}",
    "BREAK at both ends": f"BREAK a cat BREAK{END}",
    "BREAK in long tags": f"{TAGS} BREAK {TAGS}, BREAKFAST, (toast:1.1)\nNegative prompt: blur BREAK noise{FORGE}",
    "over several lines": f"1girl,\n(smile:1.1),\nrain{END}",
    "Japanese": f"桜の木の下の(少女:1.2)、[夜]、提灯\nNegative prompt: 低品質{END}",
    "emoji": f"🐈 (🌈:1.4) 👩‍🚀 ☃ [💤]{END}",
    "adapters in the prompt": f"a knight <lora:add_detail:0.8>, (armor:1.2) <lyco:x:1>\nNegative prompt: {BAD}{FORGE}",
    "odd numbers": f"(a:1.), (b: 1.25 ), (c:-0.5), (d:0), (e:+1.1), (f:1.2.3), (g:x){END}",
    "a dynamic prompt left as it is": f"[cat:dog:0.5], [a|b], {{x|y}}, AND more{END}",
    "Fooocus": '{"prompt": "cinematic still (castle:1.2), emotional, harmonious", "negative_prompt": "anime, (text)",'
    ' "steps": 30, "seed": "5", "metadata_scheme": "fooocus"}',
    "ComfyUI's words": "(masterpiece:1.2), 1boy, embedding:easynegative, (hat:1.05), \\(shy\\), looking (up:0.9)",
}


def prompts_of(infotext: str) -> tuple[str, str]:
    """Returns prompt and negative prompt of a text, whichever tool wrote it."""
    if "\nSteps: " in infotext:
        recipe = parse_infotext(infotext)
        return recipe.prompt, recipe.negative_prompt
    return said_by(infotext, plain=True).prompt or "", ""


def weighed(prompt: str) -> list[list]:
    """Returns every letter with its weight; BREAK as None."""
    letters: list[list] = []
    opened = {"(": [], "[": []}
    at = 0
    while at < len(prompt):
        letter, pair = prompt[at], prompt[at : at + 2]
        closing = closing_weight(prompt, at)
        if letter == "\\" and len(pair) == 2 and pair[1] in "()[]\\":
            letters.append([pair[1], 1.0, True])
            at += 2
            continue
        if letter in opened:
            opened[letter].append(len(letters))
        elif closing and opened["("]:
            multiply(letters, opened["("].pop(), closing[0])
            at += closing[1]
            continue
        elif closing:
            letters.extend([each, 1.0, False] for each in prompt[at : at + closing[1]])
            at += closing[1]
            continue
        elif letter == ")" and opened["("]:
            multiply(letters, opened["("].pop(), 1.1)
        elif letter == "]" and opened["["]:
            multiply(letters, opened["["].pop(), 1 / 1.1)
        else:
            letters.append([letter, 1.0, False])
        at += 1
    for start in opened["("]:
        multiply(letters, start, 1.1)
    for start in opened["["]:
        multiply(letters, start, 1 / 1.1)
    return letters


def closing_weight(prompt: str, at: int) -> tuple[float, int] | None:
    """Returns the number of ":1.3)" and how many letters that is; None where none stands there."""
    end = prompt.find(")", at)
    if prompt[at] != ":" or end < 0:
        return None
    number = prompt[at + 1 : end].strip()
    if not number or set(number) - set("+-.0123456789") or number[1:].strip("0123456789."):
        return None
    try:
        return float(number), end + 1 - at
    except ValueError:
        return None


def multiply(letters: list[list], start: int, factor: float) -> None:
    for entry in letters[start:]:
        entry[1] *= factor


def sections(letters: list[list]) -> list[list[tuple[str, float]]]:
    """Returns runs of equal weight between the words BREAK."""
    whole = "".join(entry[0] for entry in letters)
    parts, start, at = [], 0, whole.find("BREAK")
    while at >= 0:
        end = at + len("BREAK")
        around = (whole[at - 1 : at] or " ") + (whole[end : end + 1] or " ")
        if not any(letter.isalnum() or letter == "_" for letter in around):
            parts.append(letters[start:at])
            start = end
        at = whole.find("BREAK", end)
    parts.append(letters[start:])
    if len(parts) > 1:
        parts = [trimmed(part, first=n == 0, last=n == len(parts) - 1) for n, part in enumerate(parts)]
    runs: list[list[tuple[str, float]]] = []
    for part in parts:
        run: list[tuple[str, float]] = []
        for letter, weight, _ in part:
            if run and run[-1][1] == weight:
                run[-1] = (run[-1][0] + letter, weight)
            else:
                run.append((letter, weight))
        runs.append(run)
    return runs


def trimmed(part: list[list], *, first: bool, last: bool) -> list[list]:
    """Returns a part without the blanks next to a BREAK."""
    begin, end = 0, len(part)
    while not first and begin < end and part[begin][0].isspace():
        begin += 1
    while not last and begin < end and part[end - 1][0].isspace():
        end -= 1
    return part[begin:end]


def chunked(prompt: str, tokenizer) -> list[list[tuple[int, float]]]:
    """Returns tokens with weights, 75 at most in each chunk; a comma of the last 20 ends one."""
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    done: list[list[tuple[int, float]]] = []
    for number, runs in enumerate(sections(weighed(prompt))):
        current: list[tuple[int, float]] = []
        if number and not done:
            done.append([])
        for words, weight in runs:
            for token in tokenizer(words, add_special_tokens=False).input_ids:
                if len(current) == 75:
                    commas = [place for place, (id, _) in enumerate(current) if id == comma and place >= 55]
                    keep = commas[-1] + 1 if commas and token != comma else 75
                    done.append(current[:keep])
                    current = current[keep:]
                current.append((token, weight))
        done.append(current)
    while len(done) > 1 and not done[-1]:
        done.pop()
    return done


def shortened(encoder, skip: int):
    """Returns an encoder without its last layers, which ends in the same norm."""
    short = copy.deepcopy(encoder)
    for _ in range(skip - 1):
        del short.encoder.layers[-1]
    return short


def before_last(encoder, ids: torch.Tensor) -> torch.Tensor:
    """Returns what the last layer but one says, without the final norm."""
    caught = []
    layers = getattr(encoder, "text_model", encoder).encoder.layers
    handle = layers[-2].register_forward_hook(lambda _m, _i, out: caught.append(out))
    encoder(ids)
    handle.remove()
    return caught[0][0] if isinstance(caught[0], tuple) else caught[0]


def reference(pipe, prompts: list[str], skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns hidden states (n, 77 c, C) of prompts filled up to the longest, and XL's pooled vectors (n, P)."""
    xl = hasattr(pipe, "text_encoder_2")
    towers = [(pipe.tokenizer, pipe.text_encoder)] + ([(pipe.tokenizer_2, pipe.text_encoder_2)] if xl else [])
    sides, pooled = [], []
    for number, (tokenizer, encoder) in enumerate(towers):
        cut = [chunked(prompt, tokenizer) for prompt in prompts]
        longest = max(map(len, cut))
        short = encoder if xl else shortened(encoder, skip)
        rows = []
        for chunks in cut:
            states = []
            for place in range(longest):
                tokens = chunks[place] if place < len(chunks) else []
                ids = [tokenizer.bos_token_id, *(id for id, _ in tokens), tokenizer.eos_token_id]
                ids += [tokenizer.pad_token_id] * (77 - len(ids))
                batch = torch.tensor([ids])
                state = before_last(encoder, batch) if xl else short(batch).last_hidden_state
                if place == 0 and number == 1:
                    pooled.append(encoder(batch).text_embeds)
                mean = state.mean()
                state = state.clone()
                for position, (_, weight) in enumerate(tokens, start=1):
                    state[0, position] *= weight
                states.append(state * (mean / state.mean()))
            rows.append(torch.cat(states, dim=1))
        sides.append(torch.cat(rows))
    return torch.cat(sides, dim=-1), torch.cat(pooled) if xl else None


@pytest.fixture(scope="module", params=[("sd1", 1), ("sd1", 2), ("sdxl", 1)], ids=["sd1", "sd1 clip skip 2", "sdxl"])
def drawing(request):
    layout, skip = request.param
    pipe = getattr(tiny_models, layout)()
    with torch.no_grad():  # a new norm's output has no mean at all, which weights are to keep
        for tower in (pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
            for name, parameter in tower.named_parameters() if tower is not None else ():
                if "norm" in name and name.endswith("bias"):
                    parameter.normal_(0.3, 0.3, generator=torch.Generator().manual_seed(5))
    return pipe, skip


def test_there_are_thirty_of_them() -> None:
    assert len(set(INFOTEXTS.values())) == 30


@pytest.mark.slow
@pytest.mark.parametrize("name", INFOTEXTS)
@torch.no_grad()
def test_an_infotext_s_conditions_are_the_reference_s(name: str, drawing) -> None:
    pipe, skip = drawing
    prompt, negative = prompts_of(INFOTEXTS[name])
    sampling = Sampling(4, 7.0, 64, 64, negative_prompt=negative, clip_skip=skip, prompt_syntax="weighted")
    given = Texts(pipe).conditions([prompt], sampling, guided=True)
    hidden, pooled = reference(pipe, [negative, prompt], skip)
    if pooled is not None and not negative:  # XL's own rule for a negative that says nothing
        hidden[0], pooled[0] = 0, 0
    assert given.hidden.shape == hidden.shape
    assert (given.hidden - hidden).abs().max() <= 1e-4
    if pooled is not None:
        assert (given.pooled - pooled).abs().max() <= 1e-4


@pytest.mark.parametrize("prompt", ["a photograph of an astronaut", "", "1girl, solo, smile", "桜 🐈", TAGS[:200]])
@torch.no_grad()
def test_short_prompts_without_marks_are_diffusers_own_to_the_bit(prompt: str, drawing) -> None:
    pipe, skip = drawing
    if skip > 1:
        pytest.skip("diffusers' own clip skip does not run with this transformers")
    ours = PromptEncoder(pipe).encode(prompt)
    theirs = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    assert torch.equal(ours.hidden, theirs[0])
    assert ours.pooled is None or torch.equal(ours.pooled, theirs[2])


def test_the_reference_tells_what_is_read_in_another_way() -> None:
    def text(prompt: str) -> list[tuple[str, float]]:
        return [(words, round(weight, 4)) for part in sections(weighed(prompt)) for words, weight in part]

    assert text("a (b) [c] (d:1.5)") == [("a ", 1), ("b", 1.1), (" ", 1), ("c", 0.9091), (" ", 1), ("d", 1.5)]
    assert text(r"\(a\) (b") == [("(a) ", 1.0), ("b", 1.1)] and text("a:1.2) b") == [("a:1.2) b", 1.0)]
    assert [len(part) for part in sections(weighed("a BREAK b BREAKFAST"))] == [1, 1]
