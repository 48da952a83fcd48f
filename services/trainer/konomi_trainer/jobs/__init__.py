"""A training run from request to adapter.

The `worker` thread, `trainer`, a process that ends with the run (`own_process`, its other side `run_process`), further
processes (`rank_process`), `run_files` in the home and `publishing` of what came out. What a run says elsewhere are
`run_events`, and what lets it go on elsewhere are `shared_checkpoints`.
"""
