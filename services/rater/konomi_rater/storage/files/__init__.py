"""What the rater keeps as files of the store, in safetensors and JSON.

`head_file` is a fitted rater, `vector_file` the embeddings that travel with a taste.
"""
