"""The client: one object with .rater .generator .trainer .artifacts, over one channel or one per role."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType

from konomi.client.channel import Link, Tls, open_link
from konomi.client.services import ArtifactClient, GeneratorClient, RaterClient, TrainerClient
from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi.i18n.catalogue import text

ROLES = ("rater", "generator", "trainer")


class Client:
    """Talks to konomi's services; closing it closes its channels. Safe to share between threads."""

    def __init__(self, links: Mapping[str, Link]) -> None:
        """Takes an open link per role; roles may share one."""
        self._links = dict(links)
        self.addresses = {role: link.address for role, link in links.items()}

    @classmethod
    def from_addresses(
        cls,
        addresses: Mapping[str, str],
        *,
        token: str | None = None,
        home: str | Path | None = None,
        tls: Tls | None = None,
    ) -> "Client":
        """Returns a client of roles at their own addresses.

        Args:
            addresses: any of "rater", "generator", "trainer" to "HOST:PORT"; other keys are ignored.
            token: as for `connect`.
            home: as for `connect`.
            tls: as for `connect`.

        Raises:
            FailedPrecondition: no role is among the addresses.
        """
        addresses_by_role = {role: addresses[role] for role in ROLES if addresses.get(role)}
        if not addresses_by_role:
            raise FailedPrecondition(
                text("expected the address of a rater, generator or trainer, got {got}", got=dict(addresses))
            )
        root = Home.locate(home).root
        links = {
            address: open_link(address, token=token, home=root, tls=tls) for address in set(addresses_by_role.values())
        }
        return cls({role: links[address] for role, address in addresses_by_role.items()})

    @cached_property
    def rater(self) -> RaterClient:
        """The rater."""
        return RaterClient(self._link("rater"))

    @cached_property
    def generator(self) -> GeneratorClient:
        """The generator."""
        return GeneratorClient(self._link("generator"))

    @cached_property
    def trainer(self) -> TrainerClient:
        """The trainer."""
        return TrainerClient(self._link("trainer"))

    @cached_property
    def artifacts(self) -> ArtifactClient:
        """The artifact store, which every role serves."""
        return ArtifactClient(next(iter(self._links.values())))

    def close(self) -> None:
        """Closes the channels; calls under way are cancelled."""
        for link in self._links.values():
            link.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def link(self, role: str) -> Link:
        """Returns the open link to a role, for a caller that speaks with another token."""
        return self._link(role)

    def _link(self, role: str) -> Link:
        if role not in self._links:
            has = ", ".join(self._links)
            message = text("this client knows the address of {has}, not of a {role}", has=has, role=role)
            raise FailedPrecondition(message, reason="NO_ADDRESS")
        return self._links[role]


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    home: str | Path | None = None,
    tls: Tls | None = None,
) -> Client:
    """Returns a client; nothing is sent before its first call.

    Args:
        address: "HOST:PORT" or "https://HOST:PORT" of one server; without it, what `konomi up` runs on this home.
        token: bearer token; else KONOMI_TOKEN; else, on this machine, the owner's token of the home.
        home: home folder; else KONOMI_HOME; else the default one.
        tls: certificates for a server that is not on this machine.

    Raises:
        Unavailable: no address was given and `konomi up` does not run on the home.
        InvalidArgument: the address or the token is malformed, or the token would travel unencrypted.
    """
    if address is None:
        return connect_home(home, token=token)
    return Client.from_addresses(dict.fromkeys(ROLES, address), token=token, home=home, tls=tls)


def connect_home(home: str | Path | None = None, *, token: str | None = None) -> Client:
    """Returns a client of what `konomi up` runs on a home; Unavailable where it does not run."""
    return Client.from_addresses(Home.locate(home).running(), token=token, home=home)
