"""What a night was asked (`request`) and what it did (`state`, `store`).

Files of the home, under one lock: records that notice damage (`sealed`), and what each step left (`journal`). Where
hosts share a database the same is kept there (`postgresql`), and both are made the same under its lock (`levelling`).
"""
