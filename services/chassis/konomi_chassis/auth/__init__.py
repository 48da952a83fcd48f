"""Who calls and what they may.

`authentication` of a token or a certificate, `tokens` made and revoked, `policy` the one table of rpcs and scopes;
what is not in it is denied.
"""
