"""State machines of the places where people tap: door, lane or kiosk.

What lives here: pure state machines that return Actions as plain values.
What it never imports: outputs; a point never touches a pin.
Read first: actions.py, then door.py.
"""
