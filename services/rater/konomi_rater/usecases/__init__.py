"""What the rater does, one file a job, over storage and mathematics.

Start at `rater`, the object the servicers call, and `workspace`, what they share of a taste.
"""
