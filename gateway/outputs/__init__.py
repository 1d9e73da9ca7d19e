"""The shelf of outputs: hands that perform an Action.

What lives here: GPIO, signals in the reader, simulated outputs.
What it never imports: access; hands do not ask why.
Read first: base.py.
"""
