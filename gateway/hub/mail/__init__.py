"""Mails to the people who look after a school's IT, and mails with a link to those who have an account.

What lives here: texts.py (every text), outbox.py (the table), smtp.py (one delivery), sender.py (the thread), alarms.py
(a fault is told once, then daily, then that it is over), faults.py (what is wrong now).
What it never imports: ingest, sync, web; faults.py asks fleet for its alarm and reads tables, sender.py
asks accounts for links.
Read first: outbox.py, then alarms.py.
"""
