"""A training run from request to adapter.

The `worker` thread, `trainer`, further processes (`rank_process`) and `publishing` of what came out.
"""
