"""Is it any good?

`demo` runs the main job against a `simulated_person` whose truth is known, `blind_pairs` prints a sheet of pairs,
`base_models` asks which base suits a taste, `adapters` which of many LoRA files of one base does.
"""
