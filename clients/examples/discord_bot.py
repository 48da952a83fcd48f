"""A Discord bot that answers every picture people post with the grade its owner would give it.

Run `konomi up`, then: pip install discord.py && DISCORD_TOKEN=… python discord_bot.py
"""

import asyncio
import os

import konomi

GRADES = ("N", "R", "SR", "SSR", "UR")
MOST_BYTES = 8 * 1024 * 1024


def verdict(client: konomi.Client, pictures: list[bytes]) -> str:
    """Returns one line a picture: its most likely grade and how sure that is, or why there is none."""
    lines = []
    for result in client.rater.score_each(pictures):
        if result.HasField("error"):
            lines.append(f"I cannot read this one: {result.error.message}")
            continue
        chances = list(result.score.grade_probabilities)
        best = max(range(len(chances)), key=chances.__getitem__)
        lines.append(f"**{GRADES[best]}** ({chances[best]:.0%} sure), {result.score.utility:.1f} of 5")
    return "\n".join(lines)


def main() -> None:
    """Answers until Ctrl-C."""
    import discord

    intents = discord.Intents.default()
    intents.message_content = True
    bot = discord.Client(intents=intents)
    client = konomi.connect()

    @bot.event
    async def on_message(message: discord.Message) -> None:
        images = [file for file in message.attachments if (file.content_type or "").startswith("image/")]
        if message.author.bot or not images:
            return
        pictures = [await file.read() for file in images[:10] if file.size <= MOST_BYTES]
        try:
            said = await asyncio.to_thread(verdict, client, pictures) if pictures else "That is too large for me."
        except konomi.KonomiError as error:
            said = f"I cannot say: {error.message}"
        await message.reply(said, mention_author=False)

    bot.run(os.environ["DISCORD_TOKEN"])


if __name__ == "__main__":
    main()
