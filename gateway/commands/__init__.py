"""What each verb of the command line does, one file a verb.

What lives here: demo, doctor and tools, each imported only when its verb is used.
What it never imports: nothing imports it but cli.
Read first: the file named after the verb.
"""
