"""The renderer of portraits is where it is looked for; it runs only where Node is."""

from konomi_starter.data import renderer


def test_the_renderers_program_lies_in_its_folder():
    assert (renderer.PORTRAITS / "render.mjs").is_file() and (renderer.PORTRAITS / "package.json").is_file()
