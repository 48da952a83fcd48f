"""The thin SDK: a connection to one konomi or to one service of it, every rpc as a method, replies as plain values.

`client` joins the rest: `channel` opens connections (TLS, token, retries), `calls` knows the four kinds of rpc,
`load` says beforehand what one brings, `services` names the rpcs, `paging` walks long listings, `messages` turns
protobuf into JSON, `infotext` reads what a PNG says of its making into the request that draws it again. It stands on
`konomi.errors`, `konomi.settings` and the contract `konomi.v1` alone; all else in this package stands above it.
"""

from konomi.client.client import ROLES, Client, connect, connect_home

__all__ = ["ROLES", "Client", "connect", "connect_home"]
