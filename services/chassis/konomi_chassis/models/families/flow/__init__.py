"""The families whose transformer follows a flow from noise to image, one file each, and `flow_path`, the flow.

`sd3`: Stable Diffusion 3 and 3.5. With one language model and one stream (`transformer`): `z_image`, `lumina2`. With
tokens of 2 x 2 cells (`packed_family`): `flux`, FLUX.1; `chroma`; `qwen_image`; `flux2`, FLUX.2 [klein], whose noise is
`klein_path`'s.
"""
