"""What a night was asked (`request`) and what it did (`store`).

Files of the home, under one lock.
"""
