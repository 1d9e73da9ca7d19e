"""Accounts of the hub: who may sign in, by which way, and what each may do.

What lives here: accounts and their grants, passwords, the second step, OpenID Connect, sessions, one-time links, tokens
for programs, and the limits that slow down whoever guesses.
What it never imports: web; a page asks this room and shows the answer.
Read first: ../scope.py, then people.py.
"""
