"""The ways to make the next unit, one file or folder each.

`converge` 好き好き自己収束, `golden` 黄金期, `longtail` ロングテール, `propagate` 自己増殖 and `concepts` (Custom
Diffusion). Start at `base`, which says what a system is; each brings the settings it alone has; `registry` lists them
and joins their settings to one class.
"""
