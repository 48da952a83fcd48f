"""`konomi models`.

The models of a home. `manage` lists, shows, exports, merges and rolls back, `compare` puts bases or units side by
side, `adapters` a folder of LoRA files, `import_model` takes a checkpoint in, `fetch` gets one of the pinned ones,
`base_model` shows a base, `night_memory` what a night on it takes of the device.
"""
