"""The history of the tables; read env.py first."""
