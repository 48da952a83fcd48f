"""Who trains runs, other than the machine of the trainer's service.

`opening` connects what the table [scale] names: with `train_executor` "local", the default, nothing of this room is
loaded. `cluster_trainer` gives each run to an actor on a Ray cluster (`konomi_chassis.cluster`), and to another one on
another machine where it is lost; what runs in an actor is the `training_worker`. Files go through the store, by digest.
"""
