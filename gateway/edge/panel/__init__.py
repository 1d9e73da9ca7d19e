"""The only link between the daemon and the process that serves its pages: a Unix socket with bounded messages.

What lives here: messages.py (one struct a question, one a fact), server.py (the daemon's side), client.py (the pages'
side), child.py (starts the pages' process where no service manager does).
What it never imports: FastAPI, webkit, edge.web.
Read first: messages.py.
"""
