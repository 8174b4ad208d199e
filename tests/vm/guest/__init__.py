"""What runs inside a guest. Modules here import nothing but the standard library.

They lie in /lab/guest of a guest with Python: `python3 -m guest.pattern`.
"""
