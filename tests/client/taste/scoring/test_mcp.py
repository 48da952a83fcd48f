"""`konomi mcp`, asked by the protocol's own client over stdio: four tools that only read, refusals in words."""

import hashlib
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client


def ask(live, *calls: tuple[str, dict[str, Any]], options: tuple[str, ...] = ()) -> tuple[Any, list[Any]]:
    """Starts the command, returns its tools and what it answers."""
    import sys

    async def talk() -> tuple[Any, list[Any]]:
        arguments = ["-m", "konomi", "mcp", *options]
        served = StdioServerParameters(command=sys.executable, args=arguments, env=live.environment)
        with anyio.fail_after(60):
            async with Client(stdio_client(served)) as client:
                tools = (await client.list_tools()).tools
                return tools, [await client.call_tool(name, given) for name, given in calls]

    return anyio.run(talk)


@pytest.fixture
def shoot(tmp_path, png) -> Path:
    folder = tmp_path / "shoot"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(png(number, f"p{number}"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"corrupt")
    return folder


def test_the_tools_say_what_they_do_and_only_read(live):
    tools, _ = ask(live)
    assert sorted(tool.name for tool in tools) == ["explain", "pick", "score", "suggest"]
    for tool in tools:
        assert tool.description and tool.annotations.read_only_hint and tool.output_schema


def test_score_pick_explain_and_suggest_answer_over_stdio(live, shoot):
    before = {path.name: path.read_bytes() for path in shoot.iterdir()}
    live.json("import", str(shoot / "3.png"))
    digest = hashlib.sha256((shoot / "3.png").read_bytes()).hexdigest()
    _, (scored, picked, explained, suggested) = ask(
        live,
        ("score", {"paths": [str(shoot)], "most": 3}),
        ("pick", {"paths": [str(shoot)], "count": 2}),
        ("explain", {"digest": digest}),
        ("suggest", {"count": 1}),
    )
    assert not any(one.is_error for one in (scored, picked, explained, suggested)), (
        scored,
        picked,
        explained,
        suggested,
    )
    said = scored.structured_content
    bounds = [one["lower_bound"] for one in said["images"]]
    assert said["left_out"] == 4 and bounds == sorted(bounds, reverse=True)
    assert said["images"][0]["grade"] == "SR" and len(said["images"][0]["grade_probabilities"]) == 5
    said = picked.structured_content
    assert [one["lower_bound"] for one in said["picked"]] == bounds[:2] and said["picked"][0]["rank"] == 1
    assert said["picked"][0]["reason"].startswith("most likely SR (40 %)")
    assert digest in explained.structured_content["summary"]
    (one,) = suggested.structured_content["images"]
    assert one["why"] == "RANDOM" and len(one["digest"]) == 64
    assert {path.name: path.read_bytes() for path in shoot.iterdir()} == before


def test_refusals_are_words_the_assistant_can_read_and_folders_are_kept_to(live, shoot, tmp_path):
    (tmp_path / "else.png").write_bytes((shoot / "0.png").read_bytes())
    (shoot / "out.png").symlink_to(tmp_path / "else.png")
    calls = [
        ("score", {"paths": [str(tmp_path / "else.png")]}),
        ("score", {"paths": [str(shoot / ".." / "else.png")]}),
        ("score", {"paths": [str(shoot / "out.png")]}),
        ("score", {"paths": []}),
        ("score", {"paths": [str(shoot / "gone")]}),
        ("score", {"paths": [str(shoot / "0.png")]}),
    ]
    _, answers = ask(live, *calls, options=("--folder", str(shoot)))
    words = [one.content[0].text for one in answers]
    assert all("lies outside what konomi mcp may read" in each for each in words[:3]), words
    assert "expected at least one path" in words[3] and "there is nothing at" in words[4]
    assert [one.is_error for one in answers] == [True] * 5 + [False]


def test_without_the_extra_the_pip_line_is_named(live, tmp_path):
    done = live.run("mcp", "--help")
    assert done.returncode == 0 and "konomi mcp --folder" in done.stdout
    blocked = (
        "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'mcp' else f(n, *a)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(blocked)
    path = f"{tmp_path}:{live.environment['PYTHONPATH']}"
    done = live.run("mcp", env={"PYTHONPATH": path})
    assert done.returncode == 4 and "[mcp]" in done.stderr
