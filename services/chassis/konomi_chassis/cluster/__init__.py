"""A Ray cluster that does the work of a service: what all services that use one share.

`settings` is the table [scale], which says what runs there; `exposure` refuses a cluster that anybody on the network
could use, or whose machines have no store in common; `connection` joins it and tells a lost actor from an answer, and
leaves where the `head_watch` sees no head any more; `joining` waits for a head no longer than it is there; `spreading`
hands batches of work to its actors, whatever the work; a `pool` has them only while there is any. A `worker` is what
all actors' classes are made from; it compares the `versions` of what decides a result. What imports
Ray, `connection` and with it `spreading`, is imported only where Ray is asked for.
"""
