"""The families whose transformer follows a flow from noise to image, one file each, and `flow_path`, the flow.

`sd3`: Stable Diffusion 3 and 3.5.
"""
