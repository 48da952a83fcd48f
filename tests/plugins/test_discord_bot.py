"""The bot of the examples: its verdicts by a live rater, its manners in a channel that stands in for Discord's."""

import asyncio
import importlib.util
import re
import sys
import types

import pytest

import konomi
from tests.client.web.site import ROOT, picture

SCRIPT = ROOT / "clients" / "examples" / "discord_bot.py"


@pytest.fixture
def bot():
    spec = importlib.util.spec_from_file_location("discord_bot", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # needs no discord library
    return module


@pytest.mark.slow
def test_pictures_are_rated_by_the_owners_taste(site, token, bot):
    with konomi.connect() as client:
        first, second, third = bot.verdict(client, [picture(902), b"no image", picture(903)]).splitlines()
        (score,) = client.rater.score([picture(902)])
    chances = list(score.grade_probabilities)
    best = chances.index(max(chances))
    assert first == f"**{bot.GRADES[best]}** ({chances[best]:.0%} sure), {score.utility:.1f} of 5"
    assert second.startswith("I cannot read this one: ")
    assert re.fullmatch(r"\*\*(N|R|SR|SSR|UR)\*\* \(\d+% sure\), \d\.\d of 5", third)


class Posted:
    """A message with files, and what was replied to it."""

    def __init__(self, *files: bytes, kind: str = "image/png", size: int = 0, bot: bool = False):
        def attachment(data: bytes):
            async def read() -> bytes:
                return data

            return types.SimpleNamespace(content_type=kind, size=size or len(data), read=read)

        self.attachments = [attachment(data) for data in files]
        self.author = types.SimpleNamespace(bot=bot)
        self.replies: list[str] = []

    async def reply(self, text: str, mention_author: bool) -> None:
        assert not mention_author
        self.replies.append(text)


@pytest.fixture
def channel(bot, site, token, monkeypatch):
    """Runs the bot with a discord library of three names, and returns what hears messages."""
    heard = {}

    class Client:
        def __init__(self, intents):
            assert intents.message_content

        def event(self, function):
            heard[function.__name__] = function

        def run(self, token):
            assert token == "from-the-environment"

    library = types.SimpleNamespace(Client=Client, Message=object)
    library.Intents = types.SimpleNamespace(default=lambda: types.SimpleNamespace(message_content=False))
    monkeypatch.setitem(sys.modules, "discord", library)
    monkeypatch.setenv("DISCORD_TOKEN", "from-the-environment")
    bot.main()

    def post(message: Posted) -> list[str]:
        asyncio.run(heard["on_message"](message))
        return message.replies

    return post


@pytest.mark.slow
def test_it_answers_pictures_and_nothing_else(site, token, channel):
    (said,) = channel(Posted(picture(904), picture(905)))
    assert len(said.splitlines()) == 2
    assert channel(Posted()) == []
    assert channel(Posted(b"%PDF", kind="application/pdf")) == []
    assert channel(Posted(picture(904), bot=True)) == []
    assert channel(Posted(picture(904), size=9 * 1024 * 1024)) == ["That is too large for me."]


@pytest.mark.slow
def test_a_konomi_that_stopped_is_told_to_the_channel(site, token, monkeypatch, channel, bot, tmp_path):
    monkeypatch.setattr(bot, "verdict", lambda client, pictures: konomi.connect(home=tmp_path).rater.score(pictures))
    (said,) = channel(Posted(b"a picture"))
    assert said.startswith("I cannot say: ") and "konomi up" in said
