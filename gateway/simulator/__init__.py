"""Simulated hardware and data: chips, cards, a school, its MIS.

What lives here: ships with the product; demo and tests run the real drivers against it.
What it never imports: edge and hub.
Read first: chips.py.
"""
