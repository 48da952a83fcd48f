"""The command line, as `konomi --help` lists it: one file or room a command noun, and `commands` the table of them.

Start reading at `commands`. A command takes words apart, asks the room that does the work (`night`, `taste`,
`datasets`, `host`, `evaluation`) and prints what came back; nothing below this room may import it.
"""


def main() -> None:
    """Runs the command line of this process."""
    from konomi.cli.commands import main as run

    run()
