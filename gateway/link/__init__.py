"""MQTT: topics, messages and the paho client.

What lives here: exact topic names, wire forms and one thin client with an inbox.
What it never imports: journal, roster; it carries bytes and forms, not state.
Read first: topics.py.
"""
