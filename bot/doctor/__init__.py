"""`xinyu doctor`: one look at each thing the program needs. It reads and asks; it changes nothing.

One function a check, from the surroundings to a finding; examine.py lists and runs them.
"""
