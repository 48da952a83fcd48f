"""What `konomi up` runs, with the rater as its only role: the process that the page's tests talk to and kill."""

import sys

from konomi import cli_up, processes
from konomi.home import Home


def main() -> None:
    """Runs rater and page on HOME until a signal; PORT keeps the address over restarts."""
    home, port = sys.argv[1:3]
    processes.ROLES = ("rater",)
    processes.START_SECONDS = 900.0  # a busy machine is no fault of the page
    cli_up.hold_up(Home.locate(home), {"rater": 0}, int(port), True, lambda link: None)


if __name__ == "__main__":
    main()
