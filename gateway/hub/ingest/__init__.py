"""From messages to rows, each event once.

What lives here: parse.py reads messages, marks.py keeps watermarks, commit.py is the one transaction, mqtt_share.py and
amqp_quorum.py bring the messages, seals.py signs what goes back. Law: commit, then acknowledge, then watermark.
What it never imports: sync, fleet, web.
Read first: commit.py.
"""
