"""The starter's command line: installs the bundled models, draws persons and prompts, and plays a person."""

import argparse
import json
import sys
from pathlib import Path

from konomi.errors import KonomiError
from konomi_starter.data.captions import ATTRIBUTES, TASTE_ATTRIBUTES


def main() -> int:
    """Runs one subcommand and returns the exit code."""
    arguments = _parse()
    try:
        _run(arguments)
    except KonomiError as error:
        print(error.message, file=sys.stderr)
        return 4
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m konomi_starter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install").add_argument("--home", type=Path, required=True)
    commands.add_parser("attributes")
    commands.add_parser("random-person").add_argument("--seed", type=int, default=0)
    commands.add_parser("check-person").add_argument("--person", type=Path, required=True)
    prompts = commands.add_parser("prompts")
    prompts.add_argument("--count", type=int, required=True)
    prompts.add_argument("--seed", type=int, default=0)
    person = commands.add_parser("person")
    person.add_argument("--home", type=Path, required=True)
    person.add_argument("--address", required=True)
    person.add_argument("--person", type=Path)
    person.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "install":
        from konomi_starter.installation import install

        print(json.dumps(install(arguments.home)))
    elif arguments.command == "attributes":
        print(json.dumps({name: list(ATTRIBUTES[name]) for name in TASTE_ATTRIBUTES}))
    elif arguments.command == "random-person":
        from konomi_starter.persons.utility import random_person

        person = random_person(arguments.seed)
        print(json.dumps({"name": person.name, "weights": person.weights, "noise": person.noise}))
    elif arguments.command == "check-person":
        from konomi_starter.persons.utility import read_person

        print(json.dumps({"name": read_person(arguments.person).name}))
    elif arguments.command == "prompts":
        from konomi_starter.data.captions import open_prompts

        print(json.dumps(open_prompts(arguments.count, arguments.seed)))
    else:
        _play(arguments)


def _play(arguments: argparse.Namespace) -> None:
    import konomi
    from konomi_starter.persons.simulated_person import SimulatedPerson, converse
    from konomi_starter.persons.utility import random_person, read_person

    person = read_person(arguments.person) if arguments.person else random_person(arguments.seed)
    with konomi.connect(arguments.address, home=arguments.home) as client:
        played = SimulatedPerson(person, arguments.home / "models" / "starter", client.artifacts.get)
        converse(played, sys.stdin, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
