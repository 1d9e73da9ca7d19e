"""Access decisions and events: may this person pass, and what is recorded.

What lives here: people, schedules, rules, the one form of an event and what it may carry. Pure; now is an argument.
What it never imports: anything with I/O, a clock or a thread.
Read first: rules.py, then event.py.
"""
