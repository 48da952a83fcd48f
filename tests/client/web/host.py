"""What `konomi up` runs, with the rater as its only role: the process that the page's tests talk to and kill."""

import sys

from konomi.cli import up
from konomi.home import Home
from konomi.host import supervisor


def main() -> None:
    """Runs rater and page on HOME until a signal; PORT keeps the address over restarts."""
    home, port = sys.argv[1:3]
    supervisor.ROLES = ("rater",)
    supervisor.START_SECONDS = 900.0  # a busy machine is no fault of the page
    up.hold_up(Home.locate(home), {"rater": 0}, int(port), True, lambda link: None)


if __name__ == "__main__":
    main()
