"""Programs that run inside a guest. Modules here import only the standard library.

They are in /lab/guest of a guest with Python: `python3 -m guest.pattern`.
"""
