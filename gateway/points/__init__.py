"""What a decision does at one place: door, lane or kiosk.

What lives here: pure state machines that return Actions as plain values.
What it never imports: outputs; a point never touches a pin.
Read first: actions.py, then door.py.
"""
