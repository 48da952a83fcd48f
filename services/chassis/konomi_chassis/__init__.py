"""What every service stands on.

One server assembly with identity, limits, errors, storage, decoding and base models. Start at `entrypoint` (a role's
command line; `early_port` looks at its port before that) and `server`; `rpc`, `auth`, `storage`, `decoding` and
`models` are its rooms; `durable_files` is what a power cut cannot take back, `memory_shortage` what is said when
memory runs out.
"""
