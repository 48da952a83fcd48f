"""What a terminal can do for a grading person.

Single keys (`keys`) and pictures drawn in it (`pictures`).
"""
