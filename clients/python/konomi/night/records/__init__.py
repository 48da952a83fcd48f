"""What a night was asked (`request`) and what it did (`state`, `fit`, `store`); a `record` is one frozen part of that.

Files of the home, under one lock: records that notice damage (`sealed`), and what each step left (`journal`). Where
hosts share a database the same is kept there (`postgresql`), and both are made the same under its lock (`levelling`).
"""
