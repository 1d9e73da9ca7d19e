"""The outputs, which perform Actions.

What lives here: GPIO, signals in the reader, simulated outputs.
What it never imports: access; outputs do not decide.
Read first: base.py.
"""
